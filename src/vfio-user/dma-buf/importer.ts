/**
 * The importer's end of a session with the exporter of a dma-buf in another process (docs/dma-buf-socket.md), as tasks
 * on an event loop. BlockingImporter is the same for programs that block.
 */
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_COMMAND_NAMES,
  DMA_BUF_SOCKET_DETACH,
  DMA_BUF_SOCKET_FOREVER,
  DMA_BUF_SOCKET_INFO_REVOKED,
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAJOR,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_MAP_READ,
  DMA_BUF_SOCKET_MAP_WRITE,
  DMA_BUF_SOCKET_MINOR,
  DMA_BUF_SOCKET_OPEN,
  DMA_BUF_SOCKET_QUERY,
  DMA_BUF_SOCKET_RESTORE,
  DMA_BUF_SOCKET_SET_NAME,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
  DMA_BUF_SOCKET_UNMAP,
  DMA_BUF_SOCKET_WAIT,
  dma_buf_socket_fence,
  dma_buf_socket_id,
  dma_buf_socket_info,
  dma_buf_socket_map,
  dma_buf_socket_mapped,
  dma_buf_socket_name,
  dma_buf_socket_open,
  dma_buf_socket_opened,
  dma_buf_socket_range,
  dma_buf_socket_ready,
  dma_buf_socket_signal,
  dma_buf_socket_wait,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno, type ErrnoName } from '../../abi/errno.ts';
import { type Fields, type Struct, type ValueOf, viewOf } from '../../abi/layout.ts';
import { MSG_DONTWAIT, SOCK_SEQPACKET } from '../../abi/socket.ts';
import {
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
} from '../../abi/vfio-user.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { Message } from '../../linux/message.ts';
import { isUnixPacketSocket, socketPair } from '../../linux/socket.ts';
import { Completion } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { Deadline, EventLoop } from '../wire/event-loop.ts';
import { type ReceivedFrame, writeHeader } from '../wire/frame.ts';
import { PacketSocket } from '../wire/packet-socket.ts';
import { IMPORTER_LIMITS } from './limits.ts';

const MAX_REPLY_BYTES = 64 + IMPORTER_LIMITS.maxRanges * dma_buf_socket_range.sizeof;
/** Who does not answer OPEN is no exporter; whoever has answered may be in the middle of a revoke. */
const OPEN_TIMEOUT_MS = 5000;
const REQUEST_TIMEOUT_MS = 30_000;

/** What the exporter says on its own. */
export interface ImporterEvents {
  /** Lets go of every mapping of the attachment before it returns; the answer goes out behind it. Must not throw. */
  onInvalidate(attachment: number): void;
  /** The buffer can be mapped again. */
  onRestore?(attachment: number): void;
  /** Called once, last: the exporter ended the session, or is gone, and no mapping means anything any more. */
  onClose?(why: Error | null): void;
}

export interface BufferInfo {
  sizeBytes: number;
  /** The exporter lends nothing at the moment. */
  isRevoked: boolean;
  exporter: string;
  /** Empty where none was set. */
  name: string;
}

/** Where the bytes of a mapping are: slices of files, end to end. The descriptors are the caller's to close. */
export interface RemoteRanges {
  readonly id: number;
  readonly fds: readonly OwnedFd[];
  readonly ranges: readonly { fd: OwnedFd; offset: number; sizeBytes: number }[];
}

interface Answer {
  readonly payload: Buffer;
  readonly fds: OwnedFd[];
}

interface Waiting {
  readonly command: number;
  readonly done: Completion;
  readonly deadline: Deadline | null;
  answer: Answer | Error | null;
}

export class DmaBufImporter {
  private readonly loop: EventLoop;
  private readonly events: ImporterEvents;
  private readonly packets: PacketSocket;
  private readonly waiting = new Map<number, Waiting>();
  private readonly attachments = new Set<number>();
  private nextId = 0;
  private readonly openId: number;

  /**
   * Opens a session through a descriptor of the buffer, which stays the caller's and is not needed any more. ENOTSOCK
   * for a descriptor that cannot be a lent dma-buf. `opened` must be run before anything else.
   */
  constructor(loop: EventLoop, buffer: number, events: ImporterEvents) {
    if (!isUnixPacketSocket(buffer)) throw new Errno('ENOTSOCK', `descriptor ${buffer} is no dma-buf of a server`);
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
    this.expect(this.openId, DMA_BUF_SOCKET_OPEN, OPEN_TIMEOUT_MS);
  }

  get isOpen(): boolean {
    return this.packets.isOpen;
  }

  /** Waits for the answer to OPEN. ETIMEDOUT where nobody answers; EMFILE where the exporter takes no more. */
  *opened(): Task {
    const { payload, fds } = yield* this.answerOf(this.openId);
    for (const fd of fds) fd.close();
    read(dma_buf_socket_opened, payload);
  }

  *query(): Task<BufferInfo> {
    const info = read(dma_buf_socket_info, yield* this.call(DMA_BUF_SOCKET_QUERY, NOTHING));
    const isRevoked = (info.flags & DMA_BUF_SOCKET_INFO_REVOKED) !== 0;
    return { sizeBytes: info.size, isRevoked, exporter: text(info.exp_name), name: text(info.name) };
  }

  /** As DMA_BUF_SET_NAME: at most 31 bytes. */
  *setName(name: string): Task {
    const bytes = Buffer.from(name);
    const { size } = dma_buf_socket_name.fields.name;
    if (bytes.length >= size) throw new Errno('EINVAL', `a name of ${bytes.length} bytes; ${size - 1} are the most`);
    yield* this.call(DMA_BUF_SOCKET_SET_NAME, dma_buf_socket_name.encode({ name: bytes }));
  }

  /** Returns the attachment's id. ENODEV while the buffer is revoked. */
  *attach(): Task<number> {
    const { id } = read(dma_buf_socket_id, yield* this.call(DMA_BUF_SOCKET_ATTACH, dma_buf_socket_id.encode({})));
    this.attachments.add(id);
    return id;
  }

  /** Ends the attachment's mappings too: the caller has let go of them. */
  *detach(attachment: number): Task {
    this.attachments.delete(attachment);
    yield* this.call(DMA_BUF_SOCKET_DETACH, dma_buf_socket_id.encode({ id: attachment }));
  }

  /** ENODEV while the buffer is revoked. */
  *map(attachment: number, writable: boolean): Task<RemoteRanges> {
    const flags = DMA_BUF_SOCKET_MAP_READ | (writable ? DMA_BUF_SOCKET_MAP_WRITE : 0);
    const id = this.send(DMA_BUF_SOCKET_MAP, dma_buf_socket_map.encode({ attachment, flags }));
    const { payload, fds } = yield* this.answerOf(id);
    try {
      return readRanges(payload, fds);
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /** The caller has let go of the mapping. */
  *unmap(mapping: number): Task {
    yield* this.call(DMA_BUF_SOCKET_UNMAP, dma_buf_socket_id.encode({ id: mapping }));
  }

  /** Returns the id of a new fence that later users of the buffer, and a revoke, wait for. */
  *addFence(attachment: number, usage: DmaResvUsage): Task<number> {
    const request = dma_buf_socket_fence.encode({ attachment, usage });
    return read(dma_buf_socket_id, yield* this.call(DMA_BUF_SOCKET_ADD_FENCE, request)).id;
  }

  *signalFence(fence: number, error: ErrnoName | null = null): Task {
    const code = error === null ? 0 : ERRNO[error];
    yield* this.call(DMA_BUF_SOCKET_SIGNAL_FENCE, dma_buf_socket_signal.encode({ fence, error: code }));
  }

  /**
   * Waits until `events` (POLLIN: nobody writes; POLLOUT: nobody uses the buffer) are all there; returns those that are
   * when the time is over. 0 ms only looks, -1 waits for ever.
   */
  *wait(events: number, timeoutMs: number): Task<number> {
    const timeout_ms = timeoutMs < 0 ? DMA_BUF_SOCKET_FOREVER : timeoutMs;
    const most = timeoutMs < 0 ? null : timeoutMs + REQUEST_TIMEOUT_MS;
    const request = dma_buf_socket_wait.encode({ events, timeout_ms });
    return read(dma_buf_socket_ready, yield* this.call(DMA_BUF_SOCKET_WAIT, request, most)).events;
  }

  /** Ends the session, and with it all attachments, whose mappings the caller has let go of. */
  close(): void {
    const flags = VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY;
    for (const id of this.attachments) {
      const header = { id: this.takeId(), command: DMA_BUF_SOCKET_DETACH, flags };
      this.packets.send(header, dma_buf_socket_id.encode({ id }));
    }
    this.packets.close(null);
  }

  private *call(command: number, payload: Uint8Array, timeoutMs: number | null = REQUEST_TIMEOUT_MS): Task<Buffer> {
    const { payload: reply, fds } = yield* this.answerOf(this.send(command, payload, timeoutMs));
    for (const fd of fds) fd.close();
    return reply;
  }

  private send(command: number, payload: Uint8Array, timeoutMs: number | null = REQUEST_TIMEOUT_MS): number {
    if (!this.isOpen) throw new Errno('ECONNRESET', 'the exporter of the dma-buf is gone');
    const id = this.takeId();
    this.expect(id, command, timeoutMs);
    this.packets.send({ id, command, flags: VFIO_USER_F_TYPE_COMMAND }, payload);
    return id;
  }

  private expect(id: number, command: number, timeoutMs: number | null): void {
    const name = DMA_BUF_SOCKET_COMMAND_NAMES.get(command);
    const giveUp = () => this.packets.close(new Errno('ETIMEDOUT', `${name}: no answer within ${timeoutMs} ms`));
    const deadline = timeoutMs === null ? null : this.loop.after(timeoutMs, giveUp);
    this.waiting.set(id, { command, done: new Completion(`${name} reply`), deadline, answer: null });
  }

  /** Ended by the exporter's answer, by its end, or by the deadline, which ends the session. */
  private *answerOf(id: number): Task<Answer> {
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
    const { id: attachment } = read(dma_buf_socket_id, payload);
    if (command === DMA_BUF_SOCKET_RESTORE) this.events.onRestore?.(attachment);
    else if (command === DMA_BUF_SOCKET_INVALIDATE) {
      this.events.onInvalidate(attachment);
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
    if (error !== 0) {
      for (const fd of fds) fd.close();
      this.finish(waiting, Errno.fromCode(error, `${DMA_BUF_SOCKET_COMMAND_NAMES.get(command)} of a dma-buf`));
    } else this.finish(waiting, { payload: Buffer.from(payload), fds });
  }

  private finish(waiting: Waiting, answer: Answer | Error): void {
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

const NOTHING = new Uint8Array(0);

function sendOpen(buffer: number, id: number, session: OwnedFd): void {
  const payload = dma_buf_socket_open.encode({ major: DMA_BUF_SOCKET_MAJOR, minor: DMA_BUF_SOCKET_MINOR });
  const bytes = new Pinned(VFIO_USER_HEADER_SIZE + payload.length);
  writeHeader(bytes.view, id, DMA_BUF_SOCKET_OPEN, payload.length, VFIO_USER_F_TYPE_COMMAND);
  bytes.bytes.set(payload, VFIO_USER_HEADER_SIZE);
  const message = new Message(1, 1);
  message.setIov(0, bytes.address, bytes.bytes.length);
  const sent = message.sendmsg(buffer, MSG_DONTWAIT, [session.fd]);
  if (sent < 0) throw Errno.fromCode(-sent, 'OPEN of a dma-buf');
}

/** EPROTO for an answer that is shorter than `struct`. */
function read<F extends Fields>(struct: Struct<F>, payload: Uint8Array): { [K in keyof F]: ValueOf<F[K]> } {
  if (payload.length < struct.sizeof) {
    throw new Errno('EPROTO', `${payload.length} bytes are shorter than ${struct.name}`);
  }
  return struct.read(viewOf(payload));
}

function readRanges(payload: Buffer, fds: readonly OwnedFd[]): RemoteRanges {
  const { mapping, nr_ranges } = read(dma_buf_socket_mapped, payload);
  const { sizeof } = dma_buf_socket_range;
  if (payload.length !== dma_buf_socket_mapped.sizeof + nr_ranges * sizeof) {
    throw new Errno('EPROTO', `${nr_ranges} ranges in ${payload.length} bytes`);
  }
  const ranges = Array.from({ length: nr_ranges }, (_, i) => {
    const at = dma_buf_socket_mapped.sizeof + i * sizeof;
    const { fd_offset, length, fd_index } = dma_buf_socket_range.read(viewOf(payload), at);
    const fd = fds[fd_index];
    if (fd === undefined) throw new Errno('EPROTO', `range ${i} is in descriptor ${fd_index}, which did not come`);
    return { fd, offset: fd_offset, sizeBytes: length };
  });
  return { id: mapping, fds, ranges };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString();
}
