/** One socket of a blocking client, with the bytes received on it. */
import { performance } from 'node:perf_hooks';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { POLLIN, POLLOUT } from '../../abi/poll.ts';
import { MSG_DONTWAIT, SHUT_WR } from '../../abi/socket.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { PollSet } from '../../linux/poll.ts';
import { setSocketTimeout, shutdownSocket } from '../../linux/socket.ts';
import { type Frame, LIMITS, writeHeader } from '../wire/frame.ts';
import { FrameReader } from '../wire/frame-reader.ts';
import { broken, LostError, lost, silent } from './lost.ts';

/** Called before a call blocks until `socket` can be read. */
export type WhileWaiting = ((socket: number) => void) | undefined;

/** Stands for a read whose length is not known. */
const SOME_BYTES = 1;

/** Frames that wait while a message cannot be sent. Beyond it, reading stops. */
const MAX_KEPT = 64;

/** A point in time for all waits of one call. Infinity: no limit. */
export type EndMs = number;

export function endAfter(timeoutMs: number): EndMs {
  return timeoutMs > 0 ? performance.now() + timeoutMs : Number.POSITIVE_INFINITY;
}

/** The time that is left, for poll(2): -1 without a limit. */
export function leftMs(end: EndMs): number {
  return end === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(end - performance.now()));
}

export class Stream {
  readonly socket: OwnedFd;
  private readonly path: string;
  private readonly frames = new FrameReader();
  /** Frames that came while a message could not be sent. */
  private readonly kept: Frame[] = [];
  private readonly outgoing = new Message(1, LIMITS.maxMsgFds);
  private message = new Pinned(64 * 1024);
  private readonly poll = new PollSet(1);
  private readonly whileWaiting: WhileWaiting;

  /** `timeoutMs` is that of a call. */
  constructor(socket: OwnedFd, path: string, timeoutMs: number, whileWaiting?: WhileWaiting) {
    this.socket = socket;
    this.path = path;
    this.whileWaiting = whileWaiting;
    // Bounds the first receive of a call, which is one system call. All later waits use poll.
    setSocketTimeout(socket, timeoutMs);
  }

  /**
   * Sends a message. ETIMEDOUT where the server takes nothing of it until `end`; the connection stays. LostError where
   * the server is gone, or took a part only.
   */
  send(
    end: EndMs,
    id: number,
    command: number,
    payload: Uint8Array,
    flags: number,
    fds: readonly number[] = NO_FDS,
    error = 0,
  ): void {
    const length = VFIO_USER_HEADER_SIZE + payload.length;
    if (length > this.message.bytes.length) this.message = new Pinned(length);
    writeHeader(this.message.view, id, command, payload.length, flags, error);
    this.message.bytes.set(payload, VFIO_USER_HEADER_SIZE);
    for (let at = 0; at < length; ) {
      this.outgoing.setIov(0, this.message.address + at, length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, at === 0 ? fds : NO_FDS);
      if (sent > 0) at += sent;
      else if (sent === -ERRNO.EAGAIN) this.waitForRoom(end, at, length);
      else if (sent === -ERRNO.EBADF || sent === -ERRNO.ETOOMANYREFS)
        throw Errno.fromCode(-sent, `send to ${this.path}`);
      else throw lost(sent, this.path);
    }
  }

  /** Returns a frame that is complete already; null without one. LostError for bytes that are not a frame. */
  ready(): Frame | null {
    return this.kept.shift() ?? this.cut();
  }

  /**
   * Waits for the next frame. LostError when the server is gone, ETIMEDOUT when it is silent until `end`. `isFirst` is
   * that of `receive`.
   */
  next(end: EndMs, isFirst = true): Frame {
    for (let first = isFirst; ; first = false) {
      const frame = this.ready();
      if (frame !== null) return frame;
      this.receive(end, first);
    }
  }

  /**
   * Receives once. `isFirst`: nothing of this call has waited yet, so that the socket's own timeout is the call's.
   * Throws as `next`.
   */
  receive(end: EndMs, isFirst: boolean): void {
    this.whileWaiting?.(this.socket.fd);
    let received = isFirst ? this.receiveNow(true) : this.receiveUntil(end);
    // The socket's own timeout is over.
    if (received === -ERRNO.EAGAIN) throw silent(this.path);
    // A signal ended the wait.
    if (received === -ERRNO.EINTR) received = this.receiveUntil(end);
    if (received <= 0) throw this.endOf(received);
  }

  /** Shuts down its sending side, and waits until the server hangs up. ETIMEDOUT when it does not until `end`. */
  finish(end: EndMs): void {
    shutdownSocket(this.socket, SHUT_WR);
    try {
      for (;;) closeAll(this.next(end).fds);
    } catch (error) {
      if (!(error instanceof LostError) || error.code !== 'ECONNRESET') throw error;
    }
  }

  close(): void {
    for (const { fds } of this.kept.splice(0)) closeAll(fds);
    this.frames.close();
    this.socket.close();
  }

  /** Waits by poll and receives once. ETIMEDOUT when nothing comes until `end`. */
  private receiveUntil(end: EndMs): number {
    for (;;) {
      this.poll.set(0, this.socket.fd, POLLIN);
      if (this.poll.wait(leftMs(end)) === 0) throw silent(this.path);
      const received = this.receiveNow(false);
      if (received !== -ERRNO.EAGAIN) return received;
    }
  }

  /** As FrameReader.receive. Descriptors that cannot be taken are the `fdsError` of their frame, which may be late. */
  private receiveNow(wait: boolean): number {
    try {
      return this.frames.receive(this.socket.fd, wait);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      return SOME_BYTES;
    }
  }

  private cut(): Frame | null {
    try {
      return this.frames.next();
    } catch (error) {
      throw broken(this.path, error);
    }
  }

  /** Returns why a receive that brought no bytes is the end of the connection. */
  private endOf(received: number): LostError {
    const { isMidMessage } = this.frames;
    if (received !== 0 || !isMidMessage) return lost(received, this.path);
    return new LostError('ECONNRESET', `${this.path}: the server closed the connection in the middle of a message`);
  }

  /**
   * Waits until the socket takes more. Meanwhile receives: a server may wait until its own commands are read before it
   * reads this one.
   */
  private waitForRoom(end: EndMs, sent: number, length: number): void {
    const reads = this.kept.length < MAX_KEPT ? POLLIN : 0;
    this.poll.set(0, this.socket.fd, POLLOUT | reads);
    if (this.poll.wait(leftMs(end)) === 0) {
      if (sent === 0) throw silent(this.path);
      const part = `${sent} of the ${length} bytes of a message`;
      throw new LostError('ETIMEDOUT', `${this.path}: the server took ${part}, and is silent; connect anew`);
    }
    if ((this.poll.revents(0) & reads) === 0) return;
    const received = this.receiveNow(false);
    if (received <= 0 && received !== -ERRNO.EAGAIN) throw this.endOf(received);
    for (let frame = this.cut(); frame !== null; frame = this.cut()) {
      this.kept.push({ ...copyOfHeader(frame), payload: Buffer.from(frame.payload) });
    }
  }
}

const NO_FDS: readonly number[] = [];

function copyOfHeader({
  id,
  command,
  isReply,
  noReply,
  error,
  fds,
  fdsError,
  arrivedMs,
}: Frame): Omit<Frame, 'payload'> {
  return { id, command, isReply, noReply, error, fds, arrivedMs, ...(fdsError === undefined ? {} : { fdsError }) };
}
