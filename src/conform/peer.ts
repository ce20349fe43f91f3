/** One connection to the server under test. It sends any bytes, and reads replies without Barter's own codec. */
import { ERRNO, Errno, errnoName } from '../abi/errno.ts';
import { POLLIN } from '../abi/poll.ts';
import { MSG_DONTWAIT, SHUT_WR } from '../abi/socket.ts';
import {
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
} from '../abi/vfio-user.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { Pinned } from '../linux/ffi.ts';
import { Message } from '../linux/message.ts';
import { pollOne } from '../linux/poll.ts';
import { shutdownSocket } from '../linux/socket.ts';
import { commandName, nameOf, type TrialLog } from './exchange.ts';
import { broken, demand, HANGS, Outcome } from './verdict.ts';

export const NO_REPLY = VFIO_USER_F_NO_REPLY;
/** A larger message is taken for a wrong size in a header. */
const MAX_MESSAGE_BYTES = 64 << 20;
const MAX_FDS = 253;

/** One thread reads at a time, so that all connections share the place. */
const room = new Pinned(1 << 17);

export interface Incoming {
  id: number;
  command: number;
  isReply: boolean;
  flags: number;
  /** The error bit of a reply. */
  failed: boolean;
  errno: number;
  payload: Buffer;
  view: DataView;
  fds: OwnedFd[];
}

export interface SendOptions {
  id?: number;
  flags?: number;
  error?: number;
  /** The size in the header; by default the true one. */
  size?: number;
  fds?: readonly number[];
}

/** Takes a command of the server, such as DMA_READ, while a rule waits for a reply. */
export type CommandHandler = (peer: RawPeer, command: Incoming) => void;

export function messageBytes(command: number, payload: Uint8Array, options: SendOptions = {}): Buffer {
  const bytes = Buffer.alloc(VFIO_USER_HEADER_SIZE + payload.length);
  bytes.writeUInt16LE(options.id ?? 1, 0);
  bytes.writeUInt16LE(command, 2);
  bytes.writeUInt32LE(options.size ?? bytes.length, 4);
  bytes.writeUInt32LE(options.flags ?? 0, 8);
  bytes.writeUInt32LE(options.error ?? 0, 12);
  bytes.set(payload, VFIO_USER_HEADER_SIZE);
  return bytes;
}

const NOTHING = new Uint8Array(0);

export class RawPeer {
  readonly socket: OwnedFd;
  /** Answers the server's own commands. Without one, they fail the rule that meets them. */
  onCommand: CommandHandler | null = null;
  /** Whether a reply with another id than its command's is a broken rule. */
  checksIds = true;
  private readonly exchange: TrialLog;
  private readonly number: number;
  private readonly timeoutMs: number;
  private readonly incoming = new Message(1, MAX_FDS);
  private readonly outgoing = new Message(1, MAX_FDS);
  private readonly held: OwnedFd[] = [];
  private bytes = Buffer.alloc(0);
  private pendingFds: OwnedFd[] = [];
  private nextId = 1;
  private ended = false;

  constructor(socket: OwnedFd, exchange: TrialLog, number: number, timeoutMs: number) {
    this.socket = socket;
    this.exchange = exchange;
    this.number = number;
    this.timeoutMs = timeoutMs;
  }

  /** Sends bytes as they are. A server that has hung up already is found by the next receive. */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.exchange.add('sent', this.number, nameOf(bytes), bytes, fds.length);
    const copy = new Pinned(Math.max(1, bytes.length));
    copy.bytes.set(bytes);
    for (let at = 0; at < bytes.length; ) {
      this.outgoing.setIov(0, copy.address + at, bytes.length - at);
      const sent = this.outgoing.sendmsg(this.socket.fd, 0, at === 0 ? fds : []);
      if (sent === -ERRNO.EAGAIN) throw new Outcome(HANGS, 'the server does not read what the client sends');
      if (sent < 0) return;
      at += sent;
    }
  }

  /** Sends a command and returns its id. */
  command(command: number, payload: Uint8Array = NOTHING, options: SendOptions = {}): number {
    const id = options.id ?? this.takeId();
    this.send(messageBytes(command, payload, { ...options, id }), options.fds);
    return id;
  }

  private takeId(): number {
    const id = this.nextId;
    this.nextId = (id + 1) & 0xffff;
    return id;
  }

  /** The server's next message; null where it ended the connection. Silence is the verdict `hangs`. */
  next(waitsFor: string): Incoming | null {
    for (;;) {
      const message = this.cut();
      if (message !== null) return message;
      if (this.ended) return this.end();
      if (pollOne(this.socket.fd, POLLIN, this.timeoutMs) === 0) {
        this.exchange.event(this.number, `silence for ${this.timeoutMs} ms`);
        throw new Outcome(HANGS, `${waitsFor}: the server was silent for ${this.timeoutMs} ms`);
      }
      this.receive();
    }
  }

  private end(): null {
    demand(this.bytes.length === 0, 'the server ended the connection in the middle of a message');
    return null;
  }

  /** Whether anything of the server is there now, read or not: a message, or the end. */
  hasMessage(): boolean {
    while (!this.ended && pollOne(this.socket.fd, POLLIN, 0) !== 0) this.receive();
    return this.bytes.length > 0 || this.ended;
  }

  /** The next message if it is there already; 'end' where the other side has closed, or sends what is not a message. */
  tryNext(): Incoming | 'end' | null {
    while (!this.ended && pollOne(this.socket.fd, POLLIN, 0) !== 0) this.receive();
    try {
      return this.cut() ?? (this.ended ? 'end' : null);
    } catch (error) {
      if (error instanceof Outcome) return 'end';
      throw error;
    }
  }

  private receive(): void {
    this.incoming.setIov(0, room.address, room.bytes.length, room.bytes);
    const length = this.incoming.recvmsg(this.socket.fd, MSG_DONTWAIT);
    if (length === -ERRNO.EAGAIN) return;
    if (length <= 0) {
      this.ended = true;
      this.exchange.event(this.number, 'the other side ended the connection');
      return;
    }
    if (this.incoming.hasFds) {
      const fds = this.incoming.takeFds('a descriptor of the server');
      this.pendingFds.push(...fds);
      this.held.push(...fds);
    }
    this.bytes = Buffer.concat([this.bytes, room.bytes.subarray(0, length)]);
  }

  private cut(): Incoming | null {
    if (this.bytes.length < VFIO_USER_HEADER_SIZE) return null;
    const size = this.bytes.readUInt32LE(4);
    if (size < VFIO_USER_HEADER_SIZE || size > MAX_MESSAGE_BYTES) broken(`the server sent a header with size ${size}`);
    if (this.bytes.length < size) return null;
    const bytes = Buffer.from(this.bytes.subarray(0, size));
    this.bytes = this.bytes.subarray(size);
    const fds = this.pendingFds;
    this.pendingFds = [];
    this.exchange.add('received', this.number, nameOf(bytes), bytes, fds.length);
    const payload = bytes.subarray(VFIO_USER_HEADER_SIZE);
    const flags = bytes.readUInt32LE(8);
    return {
      id: bytes.readUInt16LE(0),
      command: bytes.readUInt16LE(2),
      isReply: (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY,
      flags,
      failed: (flags & VFIO_USER_F_ERROR) !== 0,
      errno: bytes.readUInt32LE(12),
      payload,
      view: new DataView(payload.buffer, payload.byteOffset, payload.length),
      fds,
    };
  }

  /** The next reply; the server's own commands before it go to `onCommand`. Null at the end of the connection. */
  reply(waitsFor: string): Incoming | null {
    for (;;) {
      const message = this.next(waitsFor);
      if (message === null || message.isReply) return message;
      if (this.onCommand === null) broken(`${waitsFor}: the server sent ${commandName(message.command)} instead`);
      this.onCommand(this, message);
    }
  }

  /** Sends a command and returns its reply, success or not. */
  call(command: number, payload: Uint8Array = NOTHING, options: SendOptions = {}): Incoming {
    const id = this.command(command, payload, options);
    return this.replyTo(id, command);
  }

  replyTo(id: number, command: number): Incoming {
    const name = commandName(command);
    const reply = this.reply(`a reply to ${name}`);
    if (reply === null) broken(`the server ended the connection instead of a reply to ${name}`);
    demand(reply.id === id || !this.checksIds, `the reply to ${name} has the id ${reply.id}, not ${id}`);
    demand(reply.command === command, `the reply to ${name} names the command ${reply.command}, not ${command}`);
    return reply;
  }

  /** As `call`; broken where the server refuses. */
  ok(command: number, payload: Uint8Array = NOTHING, options: SendOptions = {}): Incoming {
    const reply = this.call(command, payload, options);
    demand(!reply.failed, `${commandName(command)} was refused with ${errnoName(reply.errno)}`);
    return reply;
  }

  /** As `call`; broken where the server does not refuse. `what` names the wrong request. */
  refused(what: string, command: number, payload: Uint8Array = NOTHING, options: SendOptions = {}): Incoming {
    const reply = this.call(command, payload, options);
    demand(reply.failed, `${what}: ${commandName(command)} succeeded`);
    return reply;
  }

  /** Demands an error reply to what was sent last, or the end of the connection. */
  refusesOrEnds(what: string): void {
    const reply = this.reply(what);
    demand(reply === null || reply.failed, `${what}: the server answered as if it were right`);
  }

  /** Demands a reply, good or bad, or the end: anything but silence. */
  answersOrEnds(what: string): Incoming | null {
    return this.reply(what);
  }

  endSending(): void {
    this.exchange.event(this.number, 'the client ends its side (SHUT_WR)');
    shutdownSocket(this.socket, SHUT_WR);
  }

  /** Waits for the end of the connection; messages before it are dropped. */
  awaitEnd(what: string): void {
    while (this.next(what) !== null);
  }

  close(): void {
    if (!this.socket.isOpen) return;
    for (const fd of this.held) if (fd.isOpen) fd.close();
    this.incoming.close();
    this.socket.close();
    this.exchange.event(this.number, 'the client closes the connection');
  }
}

/** Whether a failed connect may succeed once the server listens. */
export function mayListenLater(error: unknown): boolean {
  return error instanceof Errno && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT');
}
