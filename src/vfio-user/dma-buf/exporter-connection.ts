/** The exporter's end of one session: messages in, tasks of the session out, and deadlines for what is owed. */
import { readFileSync } from 'node:fs';
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
  DMA_BUF_SOCKET_NAME_LEN,
  DMA_BUF_SOCKET_OPEN,
  DMA_BUF_SOCKET_POLLIN,
  DMA_BUF_SOCKET_POLLOUT,
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
  dma_buf_socket_opened,
  dma_buf_socket_range,
  dma_buf_socket_ready,
  dma_buf_socket_signal,
  dma_buf_socket_wait,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno, type ErrnoName, errnoName } from '../../abi/errno.ts';
import { type Fields, type Struct, viewOf } from '../../abi/layout.ts';
import { VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_COMMAND, VFIO_USER_F_TYPE_REPLY } from '../../abi/vfio-user.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { dmaBufSetName } from '../../dma-buf/ioctl.ts';
import {
  DMA_RESV_USAGE_BOOKKEEP,
  DMA_RESV_USAGE_READ,
  DMA_RESV_USAGE_WRITE,
  type DmaResvUsage,
} from '../../dma-buf/resv.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { reopenReadOnly } from '../../linux/memfd.ts';
import { peerCredentials } from '../../linux/socket.ts';
import { DONE, type Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { Deadline, EventLoop } from '../wire/event-loop.ts';
import type { ReceivedFrame } from '../wire/frame.ts';
import { PacketSocket } from '../wire/packet-socket.ts';
import { ExporterSession, type InvalidateRequest, type RemoteMapping } from './exporter-session.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import type { SharedBars } from './shared-bars.ts';

/** An importer that has not answered for so long is named in the log. */
const REPORT_AFTER_MS = 500;
/** Requests are small; what is larger is no request. */
const MAX_REQUEST_BYTES = 128;

/** What a connection needs of the server around it. */
export interface ImporterHost {
  readonly loop: EventLoop;
  readonly bars: SharedBars;
  /** How long an importer may owe what it was told to give back. */
  readonly timeoutMs: number;
  log(line: string): void;
  /** Called once, when everything that the importer had is given back. */
  onEnd(connection: ExporterConnection): void;
}

/** One INVALIDATE on its way. */
interface PendingInvalidate {
  readonly told: InvalidateRequest;
  answered: boolean;
  readonly report: Deadline;
  readonly deadline: Deadline;
}

/** A reply that is being made: what the request's task sends, with the reservation held where that matters. */
type Send = (payload: Uint8Array, fds?: readonly number[]) => Task;
type Handler = (connection: ExporterConnection, payload: Uint8Array, send: Send) => Task;

export class ExporterConnection {
  readonly session: ExporterSession;
  readonly dmabuf: DmaBuf;
  private readonly host: ImporterHost;
  private readonly packets: PacketSocket;
  private readonly pid: number;
  /** For people: which process. */
  private readonly who: string;
  private readonly owed = new Map<number, PendingInvalidate>();
  /** Those in WAIT: how each is told that its time is over. */
  private readonly waits = new Set<() => void>();
  private nextMessage = 1;
  private requests = 0;
  private isServerEnding = false;

  /** Takes over `socket`, and a reference to `dmabuf`. */
  constructor(host: ImporterHost, dmabuf: DmaBuf, socket: OwnedFd) {
    this.host = host;
    this.dmabuf = dmabuf;
    const { pid, uid } = peerCredentials(socket);
    this.pid = pid;
    this.who = `process ${pid} of user ${uid}`;
    const link = {
      invalidate: (told: InvalidateRequest) => this.invalidate(told),
      restore: (attachment: number) => this.restore(attachment),
    };
    this.session = new ExporterSession(dmabuf, link, host.bars);
    this.packets = new PacketSocket(host.loop, socket, MAX_REQUEST_BYTES, {
      onPacket: (packet) => this.onPacket(packet),
      onClose: (why) => this.onClose(why),
    });
  }

  /** The reply to OPEN, and the end of the session where nobody is there any more to read it. */
  answerOpen(id: number): void {
    const opened = dma_buf_socket_opened.encode({
      major: DMA_BUF_SOCKET_MAJOR,
      minor: DMA_BUF_SOCKET_MINOR,
      max_attachments: IMPORTER_LIMITS.maxAttachments,
      max_mappings: IMPORTER_LIMITS.maxMappings,
      max_fences: IMPORTER_LIMITS.maxFences,
      max_requests: IMPORTER_LIMITS.maxRequests,
      invalidate_timeout_ms: this.host.timeoutMs,
    });
    this.packets.send({ id, command: DMA_BUF_SOCKET_OPEN, flags: VFIO_USER_F_TYPE_REPLY }, opened);
  }

  /** The server ends, and the memory with it: there is nothing to keep from anybody. */
  endWithServer(): void {
    this.isServerEnding = true;
    this.packets.close(null);
  }

  private onPacket(packet: ReceivedFrame): void {
    if (packet.isReply) {
      for (const fd of packet.fds) fd.close();
      this.onAnswer(packet);
      return;
    }
    // Whatever waits: this is what others wait for.
    const isFree = packet.command === DMA_BUF_SOCKET_SIGNAL_FENCE;
    if (!isFree) this.requests += 1;
    const name = DMA_BUF_SOCKET_COMMAND_NAMES.get(packet.command) ?? packet.command;
    runner.start(`${name} of an importer`, this.serve(packet, isFree));
  }

  /** One request, beside those that wait. Its payload is read before the first wait. */
  private *serve({ id, command, noReply, payload, fds }: ReceivedFrame, isFree: boolean): Task {
    let isOut = false;
    const reply = (body: Uint8Array, error: number, bodyFds: readonly number[] = []) => {
      if (!noReply) this.packets.send({ id, command, flags: VFIO_USER_F_TYPE_REPLY, error }, body, bodyFds);
      isOut = true;
    };
    const send: Send = (body, bodyFds) => {
      reply(body, 0, bodyFds);
      return DONE;
    };
    try {
      const handler = HANDLERS.get(command);
      if (handler === undefined) throw new Errno('ENOSYS', `command ${command}`);
      for (const fd of fds) fd.close();
      if (fds.length > 0) throw new Errno('EINVAL', `${fds.length} descriptors that nobody asked for`);
      if (this.requests > IMPORTER_LIMITS.maxRequests) throw new Errno('EBUSY', `${this.requests} requests at a time`);
      yield* handler(this, payload, send);
      if (!isOut) reply(NOTHING, 0);
    } catch (error) {
      for (const fd of fds) fd.close();
      if (!(error instanceof Errno)) this.host.log(`${this.who}: ${(error as Error).stack}`);
      if (!isOut) reply(NOTHING, error instanceof Errno ? error.code : ERRNO.EIO);
    } finally {
      if (!isFree) this.requests -= 1;
    }
    this.settle();
  }

  /** Whoever answers has let go; an error is no answer. */
  private onAnswer({ id, command, error }: ReceivedFrame): void {
    const owed = this.owed.get(id);
    if (owed === undefined || owed.answered || command !== DMA_BUF_SOCKET_INVALIDATE || error !== 0) {
      throw new Errno('EPROTO', `an answer to message ${id}, which nobody waits for`);
    }
    owed.answered = true;
    runner.start('answer of an importer', this.session.acknowledge(owed.told));
    this.settle();
  }

  /** Takes out what was given: answered, and every fence of it signalled. */
  private settle(): void {
    for (const [id, { told, answered, report, deadline }] of this.owed) {
      if (!answered || !told.fences.every((fence) => fence.isSignaled)) continue;
      this.host.loop.cancel(report);
      this.host.loop.cancel(deadline);
      this.owed.delete(id);
    }
  }

  private invalidate(told: InvalidateRequest): Task {
    const { host, dmabuf } = this;
    if (!this.packets.isOpen) return DONE;
    const id = this.takeMessage();
    const what = `${told.mappings.length} mappings and ${told.fences.length} fences of ${describe(dmabuf)}`;
    const since = new Date().toISOString();
    const report = host.loop.after(Math.min(REPORT_AFTER_MS, host.timeoutMs / 2), () => {
      host.log(`${this.who} keeps ${what}, which it was told to give back at ${since}`);
    });
    const deadline = host.loop.after(host.timeoutMs, () => {
      this.packets.close(new Errno('ETIMEDOUT', `it kept ${what} for ${host.timeoutMs} ms`));
    });
    this.owed.set(id, { told, answered: false, report, deadline });
    const header = { id, command: DMA_BUF_SOCKET_INVALIDATE, flags: VFIO_USER_F_TYPE_COMMAND };
    this.packets.send(header, dma_buf_socket_id.encode({ id: told.attachment }));
    if (this.owed.size > IMPORTER_LIMITS.maxInvalidates) {
      this.packets.close(new Errno('ENOBUFS', `${this.owed.size} INVALIDATEs without an answer`));
    }
    return DONE;
  }

  private restore(attachment: number): Task {
    const flags = VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY;
    const header = { id: this.takeMessage(), command: DMA_BUF_SOCKET_RESTORE, flags };
    this.packets.send(header, dma_buf_socket_id.encode({ id: attachment }));
    return DONE;
  }

  private takeMessage(): number {
    do this.nextMessage = (this.nextMessage + 1) & 0xffff;
    while (this.owed.has(this.nextMessage));
    return this.nextMessage;
  }

  private onClose(why: Error | null): void {
    if (why !== null) this.host.log(`importer dropped: ${this.who}, ${describe(this.dmabuf)}: ${why.message}`);
    for (const { report, deadline } of this.owed.values()) {
      this.host.loop.cancel(report);
      this.host.loop.cancel(deadline);
    }
    this.owed.clear();
    for (const giveUp of [...this.waits]) giveUp();
    runner.start('end of an importer', this.end());
  }

  private *end(): Task {
    yield* this.session.end(!this.isServerEnding && !isExiting(this.pid));
    this.host.onEnd(this);
  }

  /** WAIT: for the fences of `events`, as long as `timeoutMs`; returns the events that are there then. */
  *wait(events: number, timeoutMs: number): Task<number> {
    const { session, host, waits } = this;
    const usage = (events & DMA_BUF_SOCKET_POLLOUT) !== 0 ? DMA_RESV_USAGE_READ : DMA_RESV_USAGE_WRITE;
    const fences = yield* session.fencesFor(usage);
    let isOver = timeoutMs === 0;
    const giveUp = () => {
      isOver = true;
      for (const fence of fences) fence.recheck();
    };
    const deadline = isOver || timeoutMs === DMA_BUF_SOCKET_FOREVER ? null : host.loop.after(timeoutMs, giveUp);
    waits.add(giveUp);
    for (const fence of fences) if (!isOver) yield* fence.waitUnless(() => isOver);
    waits.delete(giveUp);
    if (deadline !== null) host.loop.cancel(deadline);
    return events & this.ready();
  }

  private ready(): number {
    const { resv } = this.dmabuf;
    const pollin = resv.testSignaled(DMA_RESV_USAGE_WRITE) ? DMA_BUF_SOCKET_POLLIN : 0;
    return pollin | (resv.testSignaled(DMA_RESV_USAGE_READ) ? DMA_BUF_SOCKET_POLLOUT : 0);
  }
}

const NOTHING = new Uint8Array(0);

/** The commands of an importer. Each reads its payload first; what it throws is the reply. */
const HANDLERS = new Map<number, Handler>([
  [
    DMA_BUF_SOCKET_QUERY,
    function* ({ dmabuf, session }, payload, send) {
      if (payload.length > 0) throw new Errno('EINVAL', 'QUERY has no payload');
      const flags = session.isRevoked ? DMA_BUF_SOCKET_INFO_REVOKED : 0;
      const name = Buffer.from(dmabuf.name ?? '');
      const exp_name = Buffer.from(dmabuf.expName).subarray(0, DMA_BUF_SOCKET_NAME_LEN - 1);
      yield* send(dma_buf_socket_info.encode({ size: dmabuf.sizeBytes, flags, exp_name, name }));
    },
  ],
  [
    DMA_BUF_SOCKET_SET_NAME,
    function* ({ dmabuf }, payload) {
      const name = dma_buf_socket_name.fields.name.get(decode(dma_buf_socket_name, payload));
      const end = name.indexOf(0);
      if (end < 0) throw new Errno('EINVAL', 'a name without its terminating zero');
      dmaBufSetName(dmabuf, Buffer.from(name.subarray(0, end)).toString());
    },
  ],
  [
    DMA_BUF_SOCKET_ATTACH,
    function* ({ session }, payload, send) {
      readId(payload, true);
      yield* session.attach((id) => send(dma_buf_socket_id.encode({ id })));
    },
  ],
  [DMA_BUF_SOCKET_DETACH, ({ session }, payload) => session.detach(readId(payload))],
  [DMA_BUF_SOCKET_MAP, map],
  [DMA_BUF_SOCKET_UNMAP, ({ session }, payload) => session.unmap(readId(payload))],
  [
    DMA_BUF_SOCKET_ADD_FENCE,
    function* ({ session }, payload, send) {
      const { attachment, usage } = dma_buf_socket_fence.read(decode(dma_buf_socket_fence, payload));
      if (usage > DMA_RESV_USAGE_BOOKKEEP) throw new Errno('EINVAL', `ADD_FENCE: usage ${usage}`);
      const announce = (id: number) => send(dma_buf_socket_id.encode({ id }));
      yield* session.addFence(attachment, usage as DmaResvUsage, announce);
    },
  ],
  [
    DMA_BUF_SOCKET_SIGNAL_FENCE,
    ({ session }, payload) => {
      const { fence, error } = dma_buf_socket_signal.read(decode(dma_buf_socket_signal, payload));
      return session.signalFence(fence, error === 0 ? null : errorOf(error));
    },
  ],
  [
    DMA_BUF_SOCKET_WAIT,
    function* (connection, payload, send) {
      const { events, timeout_ms } = dma_buf_socket_wait.read(decode(dma_buf_socket_wait, payload));
      if (events === 0 || (events & ~(DMA_BUF_SOCKET_POLLIN | DMA_BUF_SOCKET_POLLOUT)) !== 0) {
        throw new Errno('EINVAL', `WAIT for events ${events}`);
      }
      const ready = yield* connection.wait(events, timeout_ms);
      yield* send(dma_buf_socket_ready.encode({ events: ready }));
    },
  ],
]);

function* map({ session }: ExporterConnection, payload: Uint8Array, send: Send): Task {
  const { attachment, flags } = dma_buf_socket_map.read(decode(dma_buf_socket_map, payload));
  const writable = (flags & DMA_BUF_SOCKET_MAP_WRITE) !== 0;
  if ((flags & DMA_BUF_SOCKET_MAP_READ) === 0 || flags > (DMA_BUF_SOCKET_MAP_READ | DMA_BUF_SOCKET_MAP_WRITE)) {
    throw new Errno('EINVAL', `MAP with flags ${flags}: read, or read and write`);
  }
  yield* session.map(attachment, writable, (mapping) => sendMapping(mapping, writable, send));
}

function sendMapping({ id, memory, ranges }: RemoteMapping, writable: boolean, send: Send): Task {
  if (memory.fd === undefined) throw new Errno('EOPNOTSUPP', 'the BAR has no memory that can be shared');
  const { sizeof } = dma_buf_socket_mapped;
  const payload = dma_buf_socket_mapped.encode(
    { mapping: id, nr_ranges: ranges.length },
    ranges.length * dma_buf_socket_range.sizeof,
  );
  const view = viewOf(payload);
  for (const [i, { offset, sizeBytes }] of ranges.entries()) {
    const range = { fd_offset: (memory.fdOffset ?? 0) + offset, length: sizeBytes, fd_index: 0 };
    dma_buf_socket_range.write(view, sizeof + i * dma_buf_socket_range.sizeof, range);
  }
  if (writable) return send(payload, [memory.fd]);
  const readOnly = reopenReadOnly(memory.fd);
  try {
    return send(payload, [readOnly.fd]);
  } finally {
    readOnly.close();
  }
}

/** EINVAL for a payload that is not exactly `struct`. */
function decode<F extends Fields>(struct: Struct<F>, payload: Uint8Array): DataView {
  if (payload.length !== struct.sizeof) {
    throw new Errno('EINVAL', `${payload.length} bytes for ${struct.name}, which has ${struct.sizeof}`);
  }
  return viewOf(payload);
}

/** An id, or (`isNothing`) the place of one that must be zero. */
function readId(payload: Uint8Array, isNothing = false): number {
  const { id, reserved } = dma_buf_socket_id.read(decode(dma_buf_socket_id, payload));
  if (reserved !== 0 || (isNothing && id !== 0)) throw new Errno('EINVAL', 'reserved bits are set');
  return id;
}

function errorOf(code: number): ErrnoName {
  const name = errnoName(code);
  return name in ERRNO ? (name as ErrnoName) : 'EIO';
}

function describe({ expName, name, sizeBytes }: DmaBuf): string {
  return `the dma-buf of ${sizeBytes} bytes of ${expName}${name === null ? '' : ` named ${name}`}`;
}

/** /proc/PID/stat: the process is on its way out, and has given its memory back before it closed its descriptors. */
const PF_EXITING = 0x4;

function isExiting(pid: number): boolean {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    // Unknown here (another pid namespace has number 0) is not gone.
    return pid > 0;
  }
  // The name in parentheses may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' || (Number(fields[6]) & PF_EXITING) !== 0;
}
