/** A connection that sends any bytes, well-formed or not. */
import assert from 'node:assert/strict';
import { ERRNO, Errno } from '../../src/abi/errno.ts';
import { MSG_DONTWAIT, SHUT_WR } from '../../src/abi/socket.ts';
import { VFIO_USER_HEADER_SIZE, VFIO_USER_VERSION } from '../../src/abi/vfio-user.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { connectUnix, setSocketTimeout, shutdownSocket } from '../../src/linux/socket.ts';
import type { Frame, ReceivedFrame } from '../../src/vfio-user/wire/frame.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import { encodeVersion } from '../../src/vfio-user/wire/version.ts';

export interface RawHeader {
  id?: number;
  command: number;
  /** The size in the header; by default the true size of the message. */
  size?: number;
  flags?: number;
  error?: number;
}

/** The bytes of a message. */
export function message(header: RawHeader, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.alloc(VFIO_USER_HEADER_SIZE + payload.length);
  bytes.writeUInt16LE(header.id ?? 1, 0);
  bytes.writeUInt16LE(header.command, 2);
  bytes.writeUInt32LE(header.size ?? bytes.length, 4);
  bytes.writeUInt32LE(header.flags ?? 0, 8);
  bytes.writeUInt32LE(header.error ?? 0, 12);
  bytes.set(payload, VFIO_USER_HEADER_SIZE);
  return bytes;
}

export interface RawReply extends Omit<Frame, 'payload'> {
  header: Buffer;
  payload: Buffer;
}

function copyOf(frame: ReceivedFrame): RawReply {
  const { view, start } = frame;
  const at = view.byteOffset + start - VFIO_USER_HEADER_SIZE;
  const header = Buffer.from(view.buffer.slice(at, view.byteOffset + start));
  return { ...frame, header, payload: Buffer.from(frame.payload) };
}

export class RawClient {
  readonly socket: OwnedFd;
  private readonly frames = new FrameReader();
  private readonly outgoing = new Message(1, 253);

  constructor(where: string | OwnedFd, timeoutMs = 10_000) {
    this.socket = typeof where === 'string' ? connectUnix(where) : where;
    setSocketTimeout(this.socket, timeoutMs);
  }

  /** Uses a socket that the server sent. */
  static over(socket: OwnedFd): RawClient {
    return new RawClient(socket);
  }

  /** A connection after its handshake. */
  static ready(path: string): RawClient {
    const client = new RawClient(path);
    const reply = client.call({ command: VFIO_USER_VERSION }, encodeVersion());
    assert.equal(reply.error, 0, 'VERSION');
    return client;
  }

  /** Sends bytes unchanged, with descriptors at the first; returns sendmsg's result for the first part that fails. */
  send(bytes: Uint8Array, fds: readonly number[] = [], flags = 0): number {
    const copy = new Pinned(bytes.length);
    copy.bytes.set(bytes);
    for (let at = 0; at < bytes.length; ) {
      this.outgoing.setIov(0, copy.address + at, bytes.length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, flags, at === 0 ? fds : []);
      if (sent < 0) return sent;
      at += sent;
    }
    return bytes.length;
  }

  /** Sends what the socket takes without waiting; returns how many bytes that were. */
  sendSome(bytes: Uint8Array): number {
    const copy = new Pinned(bytes.length);
    copy.bytes.set(bytes);
    for (let at = 0; at < bytes.length; ) {
      this.outgoing.setIov(0, copy.address + at, bytes.length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, []);
      if (sent < 0) return at;
      at += sent;
    }
    return bytes.length;
  }

  sendMessage(header: RawHeader, payload?: Uint8Array): number {
    return this.send(message(header, payload));
  }

  /** Like `receive`, but never waits; returns undefined if there is nothing yet. */
  tryReceive(): RawReply | null | undefined {
    for (;;) {
      const frame = this.frames.next();
      if (frame !== null) return copyOf(frame);
      const received = this.frames.receive(this.socket.fd, false);
      if (received === 0 || received === -ERRNO.ECONNRESET) return null;
      if (received < 0) return undefined;
    }
  }

  /** The server's next message; null if it closed the connection. Throws ETIMEDOUT if it is silent. */
  receive(): RawReply | null {
    for (;;) {
      const frame = this.frames.next();
      if (frame !== null) return copyOf(frame);
      const received = this.frames.receive(this.socket.fd, true);
      if (received === 0 || received === -ERRNO.ECONNRESET) return null;
      if (received === -ERRNO.EINTR) continue;
      if (received < 0) throw Errno.fromCode(-received, 'the server is silent');
    }
  }

  call(header: RawHeader, payload?: Uint8Array, fds: readonly number[] = []): RawReply {
    this.send(message(header, payload), fds);
    const reply = this.receive();
    assert.ok(reply !== null, `the server closed the connection at command ${header.command}`);
    assert.equal(reply.isReply, true);
    assert.equal(reply.id, header.id ?? 1);
    assert.equal(reply.command, header.command);
    return reply;
  }

  /** The name of the error in a command's reply; 'ok' if there is none. */
  outcome(header: RawHeader, payload?: Uint8Array, fds: readonly number[] = []): string {
    const reply = this.call(header, payload, fds);
    for (const fd of reply.fds) fd.close();
    if (reply.error === 0) return 'ok';
    assert.equal(reply.payload.length, 0, 'an error reply is the header alone');
    return Object.entries(ERRNO).find(([, code]) => code === reply.error)?.[0] ?? `errno ${reply.error}`;
  }

  assertDropped(): void {
    let reply = this.receive();
    while (reply !== null) {
      for (const fd of reply.fds) fd.close();
      reply = this.receive();
    }
  }

  endSending(): void {
    shutdownSocket(this.socket, SHUT_WR);
  }

  close(): void {
    this.frames.close();
    this.outgoing.close();
    this.socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
