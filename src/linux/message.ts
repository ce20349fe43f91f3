import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  CMSG_LEN,
  CMSG_SPACE,
  cmsghdr,
  iovec,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_NOSIGNAL,
  msghdr,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SOL_SOCKET,
} from '../abi/socket.ts';
import { addressOf, pinnedBytes, sys } from './ffi.ts';
import { closeForeign, ForeignFd } from './foreign-fd.ts';

const SIZEOF_INT = 4;

/**
 * A struct msghdr with its iovecs and room for descriptors, made once for every sendmsg(2) and recvmsg(2) of a
 * connection. A message costs the system call and a few stores. It allocates nothing unless descriptors travel.
 *
 * Set the iovecs, then call. `recvmsg` and `sendmsg` return the number of bytes, or the negative errno (-EAGAIN,
 * -EPIPE, -ECONNRESET, ...). They never throw: the caller handles a dead peer. 0 bytes received is the end of the
 * stream. A call that waits returns -EINTR after a signal: the socket's own timeout would start anew with each retry.
 *
 * On a stream socket the kernel never merges bytes across a send that carried descriptors, but it does put earlier
 * plain bytes in front of them. Descriptors belong to the last send whose bytes a recvmsg returned.
 */
export class Message {
  readonly maxFds: number;
  readonly #header = pinnedBytes(msghdr.sizeof);
  readonly #headerView = viewOf(this.#header);
  readonly #headerAddress = addressOf(this.#header);
  readonly #iovs: Buffer;
  readonly #iovView: DataView;
  readonly #control: Buffer;
  readonly #controlView: DataView;
  /** Bytes of the messages set by setIov live as long as these references. */
  readonly #pinned: (Uint8Array | undefined)[];
  /** The current addresses of the iovecs: a connection receives into the same place again and again. */
  readonly #addresses: number[];
  readonly #lengths: number[];
  #iovCount = 0;
  #receivedFds: number[] = NO_FDS;
  #truncated = false;

  constructor(maxIovs: number, maxFds: number) {
    if (maxFds > SCM_MAX_FD) throw new Errno('EINVAL', `${maxFds} descriptors: a message takes ${SCM_MAX_FD}`);
    this.maxFds = maxFds;
    this.#iovs = pinnedBytes(maxIovs * iovec.sizeof);
    this.#iovView = viewOf(this.#iovs);
    this.#pinned = new Array(maxIovs).fill(undefined);
    this.#addresses = new Array(maxIovs).fill(0);
    this.#lengths = new Array(maxIovs).fill(0);
    // Room for all descriptors that can come. The kernel would close those without room while this thread waits.
    this.#control = pinnedBytes(maxFds === 0 ? 0 : CMSG_SPACE(SCM_MAX_FD * SIZEOF_INT));
    this.#controlView = viewOf(this.#control);
    msghdr.write(this.#headerView, 0, { msg_iov: addressOf(this.#iovs), msg_control: addressOf(this.#control) });
  }

  /**
   * Sets iovec `index` to `length` bytes at `address`. The message ends with it, so set them in order, 0 first. The
   * memory must stay until the last call that uses it; pass `pin`, its owner, to keep JavaScript memory alive.
   */
  setIov(index: number, address: number, length: number, pin?: Uint8Array): void {
    this.#pinned[index] = pin;
    if (this.#addresses[index] !== address || this.#lengths[index] !== length) {
      const base = index * iovec.sizeof;
      iovec.fields.iov_base.set(this.#iovView, base, address);
      iovec.fields.iov_len.set(this.#iovView, base, length);
      this.#addresses[index] = address;
      this.#lengths[index] = length;
    }
    if (this.#iovCount !== index + 1) {
      this.#iovCount = index + 1;
      msghdr.fields.msg_iovlen.set(this.#headerView, 0, this.#iovCount);
    }
  }

  /** Sends the iovecs, and `fds` with their first byte. At most maxFds; the descriptors stay the caller's. */
  sendmsg(socket: number, flags = 0, fds: readonly number[] = NO_FDS): number {
    if (fds.length > 0) this.#setControl(fds);
    else this.#setControlLength(0);
    return sys.sendmsg(socket, this.#headerAddress, flags | MSG_NOSIGNAL);
  }

  /** Receives into the iovecs. Take descriptors that came with `takeFds` before the next call, or they are closed. */
  recvmsg(socket: number, flags = 0): number {
    this.#dropFds();
    if (this.maxFds > 0) this.#setControlLength(this.#control.length);
    const result = sys.recvmsg(socket, this.#headerAddress, flags | MSG_CMSG_CLOEXEC);
    if (result >= 0) this.#parseControl();
    return result;
  }

  /** Whether the last recvmsg brought descriptors, or had to drop some (then takeFds throws). */
  get hasFds(): boolean {
    return this.#receivedFds.length > 0 || this.#truncated;
  }

  /**
   * Returns the descriptors of the last recvmsg, now the caller's, close-on-exec. EMSGSIZE when the peer sent more than
   * maxFds, EMFILE when the process had no number left for one. On an error, all of them are closed.
   */
  takeFds(what: string): ForeignFd[] {
    const came = this.#receivedFds.length;
    // The room suffices for all that the kernel sends at once. A missing descriptor found no number in this process.
    if (this.#truncated && this.maxFds > 0 && came <= this.maxFds) {
      this.#dropFds();
      throw new Errno('EMFILE', `${what}: the process has no number left for a descriptor (${came} came; closed)`);
    }
    if (this.#truncated || came > this.maxFds) {
      this.#dropFds();
      throw new Errno('EMSGSIZE', `${what}: more than ${this.maxFds} descriptors in a message (${came} came; closed)`);
    }
    const fds = this.#receivedFds.map((fd) => new ForeignFd(fd, what));
    this.#receivedFds = NO_FDS;
    return fds;
  }

  /** Closes descriptors that were received and not taken. */
  close(): void {
    this.#dropFds();
  }

  #setControl(fds: readonly number[]): void {
    if (fds.length > this.maxFds) {
      throw new Errno('EINVAL', `${fds.length} descriptors for a message with room for ${this.maxFds}`);
    }
    const dataBytes = fds.length * SIZEOF_INT;
    cmsghdr.write(this.#controlView, 0, {
      cmsg_len: CMSG_LEN(dataBytes),
      cmsg_level: SOL_SOCKET,
      cmsg_type: SCM_RIGHTS,
    });
    fds.forEach((fd, i) => {
      this.#controlView.setInt32(cmsghdr.sizeof + i * SIZEOF_INT, fd, true);
    });
    this.#setControlLength(CMSG_SPACE(dataBytes));
  }

  /**
   * The kernel rewrites msg_controllen in each recvmsg; its high half stays zero. Length 0 means no control message.
   */
  #setControlLength(length: number): void {
    this.#headerView.setUint32(msghdr.fields.msg_controllen.offset, length, true);
  }

  /** Skips control messages other than SCM_RIGHTS. Without a socket option for them, none comes. */
  #parseControl(): void {
    // Without room for any, the kernel discards descriptors, and sets MSG_CTRUNC then too.
    this.#truncated = (msghdr.fields.msg_flags.get(this.#headerView) & MSG_CTRUNC) !== 0;
    if (this.maxFds === 0) return;
    const end = this.#headerView.getUint32(msghdr.fields.msg_controllen.offset, true);
    if (end < cmsghdr.sizeof) return;
    const fds: number[] = [];
    for (let at = 0; at + cmsghdr.sizeof <= end; ) {
      const length = cmsghdr.fields.cmsg_len.get(this.#controlView, at);
      if (length < cmsghdr.sizeof) break;
      const isRights =
        cmsghdr.fields.cmsg_level.get(this.#controlView, at) === SOL_SOCKET &&
        cmsghdr.fields.cmsg_type.get(this.#controlView, at) === SCM_RIGHTS;
      for (let data = at + cmsghdr.sizeof; isRights && data + SIZEOF_INT <= at + length; data += SIZEOF_INT) {
        fds.push(this.#controlView.getInt32(data, true));
      }
      at += CMSG_SPACE(length - cmsghdr.sizeof);
    }
    this.#receivedFds = fds;
  }

  #dropFds(): void {
    this.#truncated = false;
    if (this.#receivedFds.length === 0) return;
    for (const fd of this.#receivedFds) closeForeign(fd);
    this.#receivedFds = NO_FDS;
  }
}

const NO_FDS: number[] = [];
Object.freeze(NO_FDS);
