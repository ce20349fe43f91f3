/** One socket of a blocking client, with the bytes received on it. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { SHUT_WR } from '../../abi/socket.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { shutdownSocket } from '../../linux/socket.ts';
import { type Frame, LIMITS, writeHeader } from '../wire/frame.ts';
import { FrameReader } from '../wire/frame-reader.ts';

/** Called before a call blocks until `socket` can be read. */
export type WhileWaiting = ((socket: number) => void) | undefined;

export class Stream {
  readonly socket: OwnedFd;
  private readonly path: string;
  private readonly frames = new FrameReader();
  private readonly outgoing = new Message(1, LIMITS.maxMsgFds);
  private message = new Pinned(64 * 1024);
  private readonly whileWaiting: WhileWaiting;

  constructor(socket: OwnedFd, path: string, whileWaiting?: WhileWaiting) {
    this.socket = socket;
    this.path = path;
    this.whileWaiting = whileWaiting;
  }

  send(
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
      const sent = this.outgoing.sendmsg(this.socket.fd, 0, at === 0 ? fds : NO_FDS);
      if (sent < 0) throw lost(sent, this.path);
      at += sent;
    }
  }

  /** Returns a frame that is complete already; null without one. */
  ready(): Frame | null {
    return this.frames.next();
  }

  /** Waits for the next frame. ECONNRESET when the server is gone, ETIMEDOUT when it is silent. */
  next(): Frame {
    for (let frame = this.frames.next(); ; frame = this.frames.next()) {
      if (frame !== null) return frame;
      this.receive();
    }
  }

  receive(): void {
    this.whileWaiting?.(this.socket.fd);
    const received = this.frames.receive(this.socket.fd, true);
    if (received <= 0) throw lost(received, this.path);
  }

  /** Shuts down its sending side, and waits until the server hangs up. ETIMEDOUT when it does not. */
  finish(): void {
    shutdownSocket(this.socket, SHUT_WR);
    try {
      for (;;) for (const fd of this.next().fds) fd.close();
    } catch (error) {
      if (!(error instanceof Errno) || error.code !== 'ECONNRESET') throw error;
    }
  }

  close(): void {
    this.frames.close();
    this.socket.close();
  }
}

const NO_FDS: readonly number[] = [];

/** Returns why a call on the socket of the server at `path` failed. */
export function lost(result: number, path: string): Errno {
  if (result === 0) return new Errno('ECONNRESET', `${path}: the server closed the connection`);
  if (result === -ERRNO.EAGAIN) return new Errno('ETIMEDOUT', `${path}: the server is silent`);
  return Errno.fromCode(-result, path);
}
