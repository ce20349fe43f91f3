/** The exporter's end of one session: takes messages, runs the session's tasks, and keeps the deadlines. */
import {
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAJOR,
  DMA_BUF_SOCKET_MINOR,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { VFIO_USER_F_NO_REPLY, VFIO_USER_F_TYPE_COMMAND, VFIO_USER_F_TYPE_REPLY } from '../../abi/vfio-user.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { isExiting } from '../../linux/process.ts';
import { peerCredentials } from '../../linux/socket.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { beyondLimit, limitHit } from '../../vfio/limit-hits.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import type { ReceivedFrame } from '../wire/frame.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import type { Log, LogLevel } from '../wire/log.ts';
import { PacketSocket } from '../wire/packet-socket.ts';
import type { Tap, Taps } from '../wire/tap.ts';
import { type ImporterContext, REQUEST_HANDLERS, type Send } from './exporter-requests.ts';
import { ExporterSession } from './exporter-session.ts';
import { type FenceWait, type FenceWaits, giveUp } from './fence-waits.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import { INVALIDATE, NOTHING, OPEN, RESTORE } from './messages.ts';
import { PendingInvalidates } from './pending-invalidates.ts';
import type { InvalidateRequest } from './remote-mapping.ts';
import type { SharedBars } from './shared-bars.ts';

/** The log names an importer that has not answered for this long. */
const REPORT_AFTER_MS = 500;

/** The server's services for a connection. */
export interface ImporterHost {
  readonly loop: EventLoop;
  readonly bars: SharedBars;
  /** How long an importer may keep mappings and fences after an INVALIDATE. */
  readonly timeoutMs: number;
  readonly log: Log;
  /** Null where nobody listens to messages. */
  readonly taps: Taps | null;
  /** The name of the device that lends a buffer. */
  lenderOf(dmabuf: DmaBuf): string;
  /** The WAITs of all importers of a buffer. */
  waitsOf(dmabuf: DmaBuf): FenceWaits;
  /** Called once, after the importer has given everything back. */
  onEnd(connection: ExporterConnection): void;
}

export class ExporterConnection implements ImporterContext {
  readonly session: ExporterSession;
  readonly dmabuf: DmaBuf;
  private readonly host: ImporterHost;
  private readonly packets: PacketSocket;
  private readonly tap: Tap | null;
  private readonly pid: number;
  /** The importer's process, for the log. */
  private readonly who: string;
  private readonly pending: PendingInvalidates;
  private readonly waits = new Set<FenceWait>();
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
    this.pending = new PendingInvalidates(host.loop);
    const link = {
      invalidate: (request: InvalidateRequest) => this.invalidate(request),
      restore: (attachment: number) => this.restore(attachment),
    };
    this.session = new ExporterSession(dmabuf, link, host.bars, `process ${pid}`);
    const { taps } = host;
    this.tap = taps?.of('dma-buf', host.lenderOf(dmabuf), taps.nextConnection(), pid) ?? null;
    const events = {
      onPacket: (packet: ReceivedFrame) => this.onPacket(packet),
      onTooLong: () => limitHit('maxRequestBytes'),
      onClose: (why: Error | null) => this.onClose(why),
    };
    this.packets = new PacketSocket(host.loop, socket, IMPORTER_LIMITS.maxRequestBytes, events, this.tap);
  }

  /** Replies to OPEN, which came on the buffer's own socket. */
  answerOpen(open: ReceivedFrame): void {
    const { id } = open;
    this.tap?.(false, open.whole, open.fdNumbers);
    const opened = OPEN.reply.encode({
      major: DMA_BUF_SOCKET_MAJOR,
      minor: DMA_BUF_SOCKET_MINOR,
      max_attachments: IMPORTER_LIMITS.maxAttachments,
      max_mappings: IMPORTER_LIMITS.maxMappings,
      max_fences: IMPORTER_LIMITS.maxFences,
      max_requests: IMPORTER_LIMITS.maxRequests,
      invalidate_timeout_ms: this.host.timeoutMs,
    });
    this.packets.send({ id, command: OPEN.command, flags: VFIO_USER_F_TYPE_REPLY }, opened);
  }

  usage(): LimitUse[] {
    const of = `importer, process ${this.pid}`;
    return [
      ...this.session.usage(of),
      { limit: 'maxRequests', of, used: this.requests, most: IMPORTER_LIMITS.maxRequests },
      { limit: 'maxInvalidates', of, used: this.pending.size, most: IMPORTER_LIMITS.maxInvalidates },
    ];
  }

  /** Ends the session because the server ends. The memory ends too, so no BAR needs to move. */
  endWithServer(): void {
    this.isServerEnding = true;
    this.packets.close(null);
  }

  wait(events: number, timeoutMs: number | null): Task<number> {
    return this.host.waitsOf(this.dmabuf).wait(events, timeoutMs, this.waits);
  }

  private onPacket(packet: ReceivedFrame): void {
    if (packet.isReply) {
      for (const fd of packet.fds) fd.close();
      this.onAnswer(packet);
      return;
    }
    // A revoke waits for this request, so it counts to no limit.
    const isFree = packet.command === DMA_BUF_SOCKET_SIGNAL_FENCE;
    if (!isFree) this.requests += 1;
    runner.start(`request ${packet.command} of an importer`, this.serve(packet, isFree));
  }

  /** Serves one request. Requests that wait do not hold it up. */
  private *serve({ id, command, noReply, payload, fds }: ReceivedFrame, isFree: boolean): Task {
    let isOut = false;
    const reply = (body: Uint8Array, error: number, bodyFds: readonly number[] = []) => {
      if (!noReply) this.packets.send({ id, command, flags: VFIO_USER_F_TYPE_REPLY, error }, body, bodyFds);
      isOut = true;
    };
    const send: Send = function* (body, bodyFds) {
      reply(body, 0, bodyFds);
    };
    try {
      for (const fd of fds) fd.close();
      const handler = REQUEST_HANDLERS.get(command);
      if (handler === undefined) throw new Errno('ENOSYS', `command ${command}`);
      if (fds.length > 0) throw new Errno('EINVAL', `${fds.length} descriptors that nobody asked for`);
      if (this.requests > IMPORTER_LIMITS.maxRequests) {
        throw beyondLimit('maxRequests', 'EBUSY', `${this.requests} requests at a time`);
      }
      yield* handler(this, payload, send);
      if (!isOut) reply(NOTHING, 0);
    } catch (error) {
      const errno = Errno.of(error);
      if (errno === null) this.log('error', 'defect', `${this.who}: ${(error as Error).stack}`);
      if (!isOut) reply(NOTHING, errno === null ? ERRNO.EIO : -errno.errno);
    } finally {
      if (!isFree) this.requests -= 1;
    }
    this.pending.settle();
  }

  /** A successful reply to INVALIDATE means that all mappings are released. An error reply is a protocol violation. */
  private onAnswer({ id, command, error }: ReceivedFrame): void {
    const isAnswer = command === DMA_BUF_SOCKET_INVALIDATE && error === 0;
    const request = isAnswer ? this.pending.answer(id) : null;
    if (request === null) throw new Errno('EPROTO', `an answer to message ${id}, which was not asked for`);
    runner.start('answer of an importer', this.session.acknowledge(request));
    this.pending.settle();
  }

  private *invalidate(request: InvalidateRequest): Task {
    const { host, dmabuf } = this;
    if (!this.packets.isOpen) return;
    const id = this.takeMessage();
    const { mappings, fences } = request;
    const what = `${mappings.length} mappings and ${fences.length} fences of ${describe(dmabuf)}`;
    const since = new Date().toISOString();
    this.pending.add(id, request, {
      reportMs: Math.min(REPORT_AFTER_MS, host.timeoutMs / 2),
      onReport: () => this.log('warn', 'late', `${this.who} keeps ${what}, which it was told to give back at ${since}`),
      timeoutMs: host.timeoutMs,
      onTimeout: () => {
        const { priv } = dmabuf;
        if (priv instanceof VfioPciDmaBuf) priv.observer?.timedOut(priv, `process ${this.pid}`);
        this.packets.close(new Errno('ETIMEDOUT', `it kept ${what} for ${host.timeoutMs} ms`));
      },
    });
    const header = { id, command: INVALIDATE.command, flags: VFIO_USER_F_TYPE_COMMAND };
    this.packets.send(header, INVALIDATE.request.encode({ id: request.attachment }));
    if (this.pending.size > IMPORTER_LIMITS.maxInvalidates) {
      const reason = `${this.pending.size} INVALIDATEs without an answer`;
      this.packets.close(beyondLimit('maxInvalidates', 'ENOBUFS', reason));
    }
  }

  private *restore(attachment: number): Task {
    const flags = VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY;
    const header = { id: this.takeMessage(), command: RESTORE.command, flags };
    this.packets.send(header, RESTORE.request.encode({ id: attachment }));
  }

  private takeMessage(): number {
    do this.nextMessage = (this.nextMessage + 1) & 0xffff;
    while (this.pending.has(this.nextMessage));
    return this.nextMessage;
  }

  private log(level: LogLevel, cause: string, line: string): void {
    this.host.log(line, { level, cause, client: this.who });
  }

  private onClose(why: Error | null): void {
    if (why !== null)
      this.log('warn', 'dropped', `importer dropped: ${this.who}, ${describe(this.dmabuf)}: ${why.message}`);
    this.pending.clear();
    giveUp(this.waits);
    runner.start('end of an importer', this.end());
  }

  private *end(): Task {
    yield* this.session.end(!this.isServerEnding && !isExiting(this.pid));
    this.host.onEnd(this);
  }
}

function describe({ expName, name, sizeBytes }: DmaBuf): string {
  return `the dma-buf of ${sizeBytes} bytes of ${expName}${name === null ? '' : ` named ${name}`}`;
}
