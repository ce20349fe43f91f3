/** Bytes of a stream socket, cut into frames with the descriptors that belong to each. */
import { MSG_DONTWAIT, MSG_PEEK } from '../../abi/socket.ts';
import {
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  vfio_user_header,
} from '../../abi/vfio-user.ts';
import { closingCount } from '../../linux/closing-thread.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned, sys } from '../../linux/ffi.ts';
import { mayLinger } from '../../linux/foreign-fd.ts';
import { Message } from '../../linux/message.ts';
import type { PeekedBytes } from '../../linux/peeked-bytes.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import { frameBytes, LIMITS, ReceivedFrame } from './frame.ts';

const FIRST_BUFFER_BYTES = 64 * 1024;

const header = vfio_user_header.fields;

/** Shared by all frames without descriptors; stays empty. */
const NO_FDS: OwnedFd[] = [];
Object.freeze(NO_FDS);

/**
 * Returns the descriptors of the last recvmsg. EMFILE, and all are closed, when one of them may linger in its close and
 * LIMITS.maxClosing others already do.
 */
export function takeFds(message: Message): OwnedFd[] {
  const fds = message.takeFds('descriptor of a peer');
  if (closingCount() < LIMITS.maxClosing || !fds.some(({ fd }) => mayLinger(fd))) return fds;
  closeAll(fds);
  const reason = `${LIMITS.maxClosing} descriptors of peers are being closed, and are not yet`;
  throw beyondLimit('maxClosing', 'EMFILE', reason);
}

export class FrameReader {
  private readonly message = new Message(1, LIMITS.maxMsgFds);
  private buffer = new Pinned(FIRST_BUFFER_BYTES);
  /** The bytes from `start` to `filled` are received and not yet cut into frames. */
  private start = 0;
  private filled = 0;
  /** Bytes of the stream before the buffer. */
  private consumed = 0;
  /**
   * Descriptors that came, with the place in the stream where their read ended. They belong to the message with the
   * last of those bytes: the kernel ends a read after a send that carried descriptors.
   */
  private arrived: { end: number; fds: OwnedFd[]; error?: Error }[] = [];
  private more = false;
  /** The last read brought one access alone, so the peer waits for its reply before it sends more. */
  private isSingleAccess = false;

  /** Whether the socket may hold more bytes: the last read filled its room, or ended after descriptors. */
  get mayHaveMore(): boolean {
    return this.more;
  }

  /** A message has begun, and is not complete. */
  get isMidMessage(): boolean {
    return this.filled > this.start;
  }

  /**
   * Calls recvmsg(2) once and returns its result: bytes, 0 at the end of the stream, or the negative errno (-EINTR only
   * with `wait`). Throws EMSGSIZE for too many descriptors and EMFILE where this process has no number left; the bytes
   * are received all the same, and `fdsError` of their frame is this error. Throws the errors of `frameBytes` for a
   * message that is too large. With `left`, a whole message that comes alone stays in the socket until `left` takes it
   * out; `wait` must then be false.
   */
  receive(socket: number, wait: boolean, left: PeekedBytes | null = null): number {
    this.makeRoom();
    const room = this.buffer.bytes.length - this.filled;
    if (left !== null) {
      const looked = this.isSingleAccess && !this.isMidMessage && left.works ? this.look(socket, room, left) : null;
      if (looked !== null) return looked;
      left.takeOut();
    }
    this.message.setIov(0, this.buffer.address + this.filled, room);
    const received = this.message.recvmsg(socket, wait ? 0 : MSG_DONTWAIT);
    if (received <= 0) return received;
    this.filled += received;
    this.more = received === room || this.message.hasFds;
    this.isSingleAccess = this.isLoneAccess(received);
    if (this.message.hasFds) this.takeArrived();
    return received;
  }

  private takeArrived(): void {
    const end = this.consumed + this.filled;
    try {
      this.arrived.push({ end, fds: takeFds(this.message) });
      this.checkArrived();
    } catch (error) {
      if (this.arrived.length <= LIMITS.maxMsgFds) this.arrived.push({ end, fds: NO_FDS, error: error as Error });
      throw error;
    }
  }

  /**
   * Reads a lone access and leaves it in the socket. Returns null for anything else, which the caller reads for good.
   * The access needs no descriptors, so recv(2) does; it costs much less than recvmsg(2).
   */
  private look(socket: number, room: number, left: PeekedBytes): number | null {
    const received = sys.recv(socket, this.buffer.address + this.filled, room, MSG_DONTWAIT | MSG_PEEK);
    if (received <= 0) return received;
    this.filled += received;
    if (this.isLoneAccess(received)) {
      left.add(received);
      this.more = false;
      return received;
    }
    this.filled -= received;
    return null;
  }

  /** Whether the last `received` bytes are all there is, and are one REGION_READ or REGION_WRITE. */
  private isLoneAccess(received: number): boolean {
    if (this.start + received !== this.filled || received < VFIO_USER_HEADER_SIZE) return false;
    const { view } = this.buffer;
    if (header.msg_size.get(view, this.start) !== received) return false;
    const command = header.cmd.get(view, this.start);
    return command === VFIO_USER_REGION_READ || command === VFIO_USER_REGION_WRITE;
  }

  /**
   * Checks the count of descriptors. A message may come in many reads, each with descriptors. Complete frames have
   * theirs already. Closes the last ones when they are too many: the frame itself stays readable.
   */
  private checkArrived(): void {
    let count = 0;
    for (const { fds } of this.arrived) count += fds.length;
    if (count <= LIMITS.maxMsgFds) return;
    closeAll(this.arrived.pop()!.fds);
    throw beyondLimit('maxMsgFds', 'EMSGSIZE', `${count} descriptors; ${LIMITS.maxMsgFds} are the most`);
  }

  /**
   * Returns the next complete frame, or null. Its payload is valid until `receive`; the caller owns its descriptors.
   */
  next(): ReceivedFrame | null {
    if (this.filled - this.start < VFIO_USER_HEADER_SIZE) return null;
    const size = frameBytes(this.buffer.view, this.start);
    if (this.filled - this.start < size) return null;
    const at = this.start;
    this.start += size;
    if (this.arrived.length === 0) return new ReceivedFrame(this.buffer, at, this.start, NO_FDS);
    const { fds, error } = this.arrivedUpTo(this.consumed + this.start);
    const frame = new ReceivedFrame(this.buffer, at, this.start, fds);
    if (error !== undefined) frame.fdsError = error;
    return frame;
  }

  /** Keeps the last frame's payload valid. Later bytes go into a new buffer. */
  keepLast(): void {
    const fresh = new Pinned(Math.max(FIRST_BUFFER_BYTES, this.filled - this.start));
    fresh.bytes.set(this.buffer.bytes.subarray(this.start, this.filled));
    this.replace(fresh);
  }

  /** Closes descriptors that no frame took. */
  close(): void {
    this.message.close();
    for (const { fds } of this.arrived.splice(0)) for (const fd of fds) fd.close();
  }

  private arrivedUpTo(end: number): { fds: OwnedFd[]; error: Error | undefined } {
    const fds: OwnedFd[] = [];
    let error: Error | undefined;
    while (this.arrived.length > 0 && this.arrived[0].end <= end) {
      const next = this.arrived.shift()!;
      fds.push(...next.fds);
      error ??= next.error;
    }
    return { fds, error };
  }

  /** Moves the remaining bytes to the start, and grows the buffer for a large message that has begun. */
  private makeRoom(): void {
    const left = this.filled - this.start;
    const size = left < VFIO_USER_HEADER_SIZE ? 0 : frameBytes(this.buffer.view, this.start);
    if (size > this.buffer.bytes.length) {
      const larger = new Pinned(size + FIRST_BUFFER_BYTES);
      larger.bytes.set(this.buffer.bytes.subarray(this.start, this.filled));
      this.replace(larger);
    } else if (this.start > 0) {
      if (left > 0) this.buffer.bytes.copyWithin(0, this.start, this.filled);
      this.replace(this.buffer);
    }
  }

  private replace(buffer: Pinned): void {
    this.buffer = buffer;
    this.consumed += this.start;
    this.filled -= this.start;
    this.start = 0;
  }
}
