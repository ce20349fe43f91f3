/**
 * The importer's socket to the exporter: sends requests, receives replies, and receives the exporter's own messages.
 */
import {
  DMA_BUF_SOCKET_COMMAND_NAMES,
  DMA_BUF_SOCKET_MAJOR,
  DMA_BUF_SOCKET_MINOR,
  dma_buf_socket_range,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno } from '../../abi/errno.ts';
import type { Fields } from '../../abi/layout.ts';
import { MSG_DONTWAIT, SOCK_SEQPACKET } from '../../abi/socket.ts';
import {
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
} from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { isUnixPacketSocket, socketPair } from '../../linux/socket.ts';
import { Completion } from '../../task/completion.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { Deadline } from '../wire/deadlines.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { type ReceivedFrame, writeHeader } from '../wire/frame.ts';
import { PacketSocket } from '../wire/packet-socket.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import {
  decode,
  INVALIDATE,
  type MessageType,
  NOTHING,
  OPEN,
  RESTORE,
  type Settable,
  type Values,
} from './messages.ts';

const MAX_REPLY_BYTES = 64 + IMPORTER_LIMITS.maxRanges * dma_buf_socket_range.sizeof;
/** A peer that does not answer OPEN is not an exporter. */
const OPEN_TIMEOUT_MS = 5000;
/** An exporter that answered OPEN may be in the middle of a revoke. */
export const REQUEST_TIMEOUT_MS = 30_000;

/** The messages that the exporter sends on its own. */
export interface ImporterEvents {
  /**
   * Must let go of every mapping of the attachment before it returns; the answer is sent afterwards. Must not throw.
   */
  onInvalidate(attachment: number): void;
  /** The buffer can be mapped again. */
  onRestore?(attachment: number): void;
  /** Called once, last: the exporter ended the session or is gone. No mapping is valid any more. */
  onClose?(why: Error | null): void;
}

export interface ExporterAnswer {
  readonly payload: Buffer;
  readonly fds: OwnedFd[];
}

interface PendingCall {
  readonly command: number;
  readonly done: Completion;
  readonly deadline: Deadline | null;
  answer: ExporterAnswer | Error | null;
}

export class ExporterCalls {
  private readonly loop: EventLoop;
  private readonly events: ImporterEvents;
  private readonly packets: PacketSocket;
  private readonly waiting = new Map<number, PendingCall>();
  private readonly openId: number;
  private nextId = 0;

  /**
   * Opens a session through `buffer`, which stays the caller's. ENOTSOCK for a descriptor that cannot be a lent
   * dma-buf.
   */
  constructor(loop: EventLoop, buffer: number, events: ImporterEvents) {
    if (!isUnixPacketSocket(buffer)) throw new Errno('ENOTSOCK', `descriptor ${buffer} is not a dma-buf of a server`);
    this.loop = loop;
    this.events = events;
    this.openId = this.takeId();
    const [ours, theirs] = socketPair('session with an exporter', SOCK_SEQPACKET);
    try {
      sendOpen(buffer, this.openId, theirs);
    } catch (error) {
      ours.close();
      throw error;
    } finally {
      theirs.close();
    }
    this.packets = new PacketSocket(loop, ours, MAX_REPLY_BYTES, {
      onPacket: (packet) => this.onPacket(packet),
      onClose: (why) => this.onClose(why),
    });
    this.expect(this.openId, OPEN.command, OPEN_TIMEOUT_MS);
  }

  get isOpen(): boolean {
    return this.packets.isOpen;
  }

  /** Waits for the answer to OPEN. ETIMEDOUT without an answer; EMFILE where the exporter takes no more sessions. */
  *opened(): Task {
    const { payload, fds } = yield* this.answerOf(this.openId);
    for (const fd of fds) fd.close();
    decode(OPEN.reply, payload, 'EPROTO');
  }

  /** Sends a request and returns its reply. Throws the errno of an error reply, or why no reply comes. */
  *call<Q extends Fields, R extends Fields>(
    type: MessageType<Q, R>,
    request: Settable<Q>,
    timeoutMs: number | null = REQUEST_TIMEOUT_MS,
  ): Task<Values<R>> {
    const { payload, fds } = yield* this.callRaw(type, request, timeoutMs);
    for (const fd of fds) fd.close();
    return decode(type.reply, payload, 'EPROTO');
  }

  /** As `call`, for a reply with descriptors, which the caller then owns. */
  *callRaw<Q extends Fields, R extends Fields>(
    type: MessageType<Q, R>,
    request: Settable<Q>,
    timeoutMs: number | null = REQUEST_TIMEOUT_MS,
  ): Task<ExporterAnswer> {
    if (!this.isOpen) throw new Errno('ECONNRESET', 'the exporter of the dma-buf is gone');
    const id = this.takeId();
    this.expect(id, type.command, timeoutMs);
    this.packets.send({ id, command: type.command, flags: VFIO_USER_F_TYPE_COMMAND }, type.request.encode(request));
    return yield* this.answerOf(id);
  }

  /** A request without a reply. */
  post<Q extends Fields>(type: MessageType<Q, Fields>, request: Settable<Q>): void {
    const flags = VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY;
    this.packets.send({ id: this.takeId(), command: type.command, flags }, type.request.encode(request));
  }

  close(): void {
    this.packets.close(null);
  }

  private expect(id: number, command: number, timeoutMs: number | null): void {
    const name = DMA_BUF_SOCKET_COMMAND_NAMES.get(command);
    const giveUp = () => this.packets.close(new Errno('ETIMEDOUT', `${name}: no answer within ${timeoutMs} ms`));
    const deadline = timeoutMs === null ? null : this.loop.after(timeoutMs, giveUp);
    this.waiting.set(id, { command, done: new Completion(`${name} reply`), deadline, answer: null });
  }

  /** Waits for the exporter's answer, its end, or the deadline. The deadline ends the session. */
  private *answerOf(id: number): Task<ExporterAnswer> {
    const waiting = this.waiting.get(id)!;
    yield* waiting.done.wait();
    this.waiting.delete(id);
    if (waiting.answer instanceof Error) throw waiting.answer;
    return waiting.answer!;
  }

  private takeId(): number {
    do this.nextId = (this.nextId + 1) & 0xffff;
    while (this.waiting.has(this.nextId));
    return this.nextId;
  }

  private onPacket(packet: ReceivedFrame): void {
    if (packet.isReply) this.onReply(packet);
    else {
      for (const fd of packet.fds) fd.close();
      this.onCommand(packet);
    }
  }

  private onCommand({ id, command, payload, noReply }: ReceivedFrame): void {
    if (command === RESTORE.command) this.events.onRestore?.(decode(RESTORE.request, payload, 'EPROTO').id);
    else if (command === INVALIDATE.command) {
      this.events.onInvalidate(decode(INVALIDATE.request, payload, 'EPROTO').id);
      this.packets.send({ id, command, flags: VFIO_USER_F_TYPE_REPLY }, NOTHING);
    } else if (!noReply) {
      this.packets.send({ id, command, flags: VFIO_USER_F_TYPE_REPLY, error: ERRNO.ENOSYS }, NOTHING);
    }
  }

  private onReply({ id, command, error, payload, fds }: ReceivedFrame): void {
    const waiting = this.waiting.get(id);
    if (waiting === undefined || waiting.command !== command || waiting.answer !== null) {
      for (const fd of fds) fd.close();
      throw new Errno('EPROTO', `an answer to message ${id}, which was not sent`);
    }
    if (error === 0) {
      this.finish(waiting, { payload: Buffer.from(payload), fds });
      return;
    }
    for (const fd of fds) fd.close();
    this.finish(waiting, Errno.fromCode(error, `${DMA_BUF_SOCKET_COMMAND_NAMES.get(command)} of a dma-buf`));
  }

  private finish(waiting: PendingCall, answer: ExporterAnswer | Error): void {
    waiting.answer = answer;
    if (waiting.deadline !== null) this.loop.cancel(waiting.deadline);
    runner.start('answer of an exporter', waiting.done.complete());
  }

  private onClose(why: Error | null): void {
    for (const waiting of this.waiting.values()) {
      if (waiting.answer !== null) continue;
      this.finish(waiting, why ?? new Errno('ECONNRESET', 'the exporter of the dma-buf is gone'));
    }
    this.events.onClose?.(why);
  }
}

function sendOpen(buffer: number, id: number, session: OwnedFd): void {
  const payload = OPEN.request.encode({ major: DMA_BUF_SOCKET_MAJOR, minor: DMA_BUF_SOCKET_MINOR });
  const bytes = new Pinned(VFIO_USER_HEADER_SIZE + payload.length);
  writeHeader(bytes.view, id, OPEN.command, payload.length, VFIO_USER_F_TYPE_COMMAND);
  bytes.bytes.set(payload, VFIO_USER_HEADER_SIZE);
  const message = new Message(1, 1);
  message.setIov(0, bytes.address, bytes.bytes.length);
  const sent = message.sendmsg(buffer, MSG_DONTWAIT, [session.fd]);
  if (sent < 0) throw Errno.fromCode(-sent, 'OPEN of a dma-buf');
}
