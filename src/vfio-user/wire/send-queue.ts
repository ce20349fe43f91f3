/** Sends messages in order without blocking the loop, on stream and packet sockets. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL } from '../../abi/socket.ts';
import { closeAll, duplicateAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned, sys } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import { LIMITS } from './frame.ts';

const NO_FDS: readonly number[] = [];
/** Messages that wait for a peer that does not read. */
const MAX_UNSENT = 256;

/** Bytes that wait in all queues of the process. */
let bytesOfAll = 0;

interface Unsent {
  readonly bytes: Buffer;
  readonly fds: readonly OwnedFd[];
}

/**
 * Sends messages at once where the socket takes them. It copies the rest, with duplicates of the descriptors. `flush`
 * sends these copies once the socket is writable again.
 */
export class SendQueue {
  private readonly socket: OwnedFd;
  private readonly outgoing: Message;
  private readonly onLost: (why: Error | null) => void;
  private readonly unsent: Unsent[] = [];
  /** Bytes of `unsent`. */
  private bytes = 0;

  /**
   * `onLost` is called when the peer cannot be reached, or has a part of a message whose rest cannot wait. Its argument
   * is null when the peer closed in good order.
   */
  constructor(socket: OwnedFd, maxFds: number, onLost: (why: Error | null) => void) {
    this.socket = socket;
    this.outgoing = new Message(1, maxFds);
    this.onLost = onLost;
  }

  get isEmpty(): boolean {
    return this.unsent.length === 0;
  }

  /**
   * Sends the first `length` bytes of `message`, with descriptors that stay the caller's. It throws only where nothing
   * of the message is sent: EMFILE where descriptors must wait and no number is left for their duplicates, ENOBUFS when
   * too many messages or bytes wait, EBADF and ETOOMANYREFS for descriptors that the kernel does not take.
   */
  send(message: Pinned, length: number, fds: readonly number[] = NO_FDS): void {
    if (this.unsent.length > 0) {
      this.keep(message.bytes.subarray(0, length), fds);
      return;
    }
    const sent = this.sendNow(message.address, length, fds);
    if (sent === length) return;
    if (sent >= 0) this.keepRest(message.bytes.subarray(sent, length));
    else if (sent === -ERRNO.EAGAIN) this.keep(message.bytes.subarray(0, length), fds);
    else if (sent === -ERRNO.EBADF || sent === -ERRNO.ETOOMANYREFS) throw Errno.fromCode(-sent, 'send to the peer');
    else this.onLost(reasonOf(sent, 'send to the peer'));
  }

  /** Sends waiting messages, as far as the socket takes them. */
  flush(): void {
    for (let next = this.unsent[0]; next !== undefined; next = this.unsent[0]) {
      const { length } = next.bytes;
      const copy = new Pinned(length);
      copy.bytes.set(next.bytes);
      const numbers = next.fds.map(({ fd }) => fd);
      const sent = this.sendNow(copy.address, length, numbers);
      if (sent === -ERRNO.EAGAIN) return;
      if (sent < 0) {
        this.onLost(reasonOf(sent, 'send to the peer'));
        return;
      }
      closeAll(next.fds);
      this.count(-sent);
      if (sent === length) this.unsent.shift();
      else this.unsent[0] = { bytes: next.bytes.subarray(sent), fds: [] };
    }
  }

  /** Drops the waiting messages. */
  close(): void {
    for (const { fds } of this.unsent.splice(0)) closeAll(fds);
    this.count(-this.bytes);
  }

  private keep(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.unsent.length >= MAX_UNSENT) throw new Errno('ENOBUFS', `${MAX_UNSENT} messages are not read`);
    const { maxUnsentBytes, maxUnsentBytesOfAll } = LIMITS;
    if (this.bytes + bytes.length > maxUnsentBytes || bytesOfAll + bytes.length > maxUnsentBytesOfAll) {
      const limit = this.bytes + bytes.length > maxUnsentBytes ? 'maxUnsentBytes' : 'maxUnsentBytesOfAll';
      const reason = `${this.bytes} bytes are not read, and ${bytesOfAll} with those for other peers`;
      throw beyondLimit(limit, 'ENOBUFS', reason);
    }
    this.unsent.push({ bytes: Buffer.from(bytes), fds: duplicateAll(fds, 'descriptor to send') });
    this.count(bytes.length);
  }

  /** Keeps the rest of a message. Without it the peer takes the next message for the rest, so the connection ends. */
  private keepRest(bytes: Uint8Array): void {
    try {
      this.keep(bytes, NO_FDS);
    } catch (error) {
      this.onLost(error as Error);
    }
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    bytesOfAll += bytes;
  }

  private sendNow(address: number, length: number, fds: readonly number[]): number {
    if (fds.length === 0) return sys.send(this.socket.fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    this.outgoing.setIov(0, address, length);
    return this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, fds);
  }
}

/** Returns why a connection ends after `result` of a system call; null when the peer closed in good order. */
export function reasonOf(result: number, what: string): Error | null {
  return result === -ERRNO.EPIPE || result === -ERRNO.ECONNRESET ? null : Errno.fromCode(-result, what);
}
