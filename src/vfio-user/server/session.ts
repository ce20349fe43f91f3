/** One client of one device: its handshake, its requests in order, and what it leaves behind when it goes. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { VFIO_USER_F_TYPE_REPLY, VFIO_USER_HEADER_SIZE, VFIO_USER_VERSION } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { peerCredentials, socketPair } from '../../linux/socket.ts';
import type { DmaAddressSpace } from '../../pci/dma.ts';
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { ClientFiles, type Exports } from '../dma-buf/exports.ts';
import { Connection } from '../wire/connection.ts';
import type { Deadline, EventLoop } from '../wire/event-loop.ts';
import { type Frame, LIMITS, type ReceivedFrame, writeHeader } from '../wire/frame.ts';
import { type Capabilities, decodeVersion, encodeVersion, type VersionOffer } from '../wire/version.ts';
import { ClientMemory } from './client-memory.ts';
import { DmaRegions } from './dma-regions.ts';
import { IoFds } from './io-fds.ts';
import { regionAccessNow } from './region-access.ts';
import { Reply } from './reply.ts';
import { serveRequest } from './requests.ts';
import { type Trace, traceDma, traceRequest } from './trace.ts';

/** Reading resumes when this part of what may wait is left. */
const LOW_WATER = 1 / 4;

/** What a session needs from the server around it. */
export interface SessionHost {
  readonly loop: EventLoop;
  readonly exports: Exports;
  /** Claims the device for this session. EBUSY while another client has it. */
  claim(session: Session): void;
  /** The session that has a device now, of all that this process serves. */
  ownerOf(vdev: VfioPciCoreDevice): Session | null;
  /** Called once, when everything that the session had is given back. */
  onEnd(session: Session): void;
  log(line: string): void;
  /** Hears of everything that passes; null where nobody wants to. */
  readonly trace: Trace | null;
}

export class Session {
  readonly vdev: VfioPciCoreDevice;
  readonly files = new ClientFiles();
  readonly exports: Exports;
  /** The process at the other end. */
  readonly peerPid: number;
  /** Null until VERSION was agreed on. */
  regions: DmaRegions | null = null;
  capabilities: Capabilities | null = null;
  readonly host: SessionHost;
  readonly ioFds: IoFds;
  private readonly connection: Connection;
  /** Where DMA_READ and DMA_WRITE go, when VERSION agreed on a socket of their own. */
  private twin: Connection | null = null;
  private readonly reply = new Reply();
  private readonly queue: Frame[] = [];
  private queuedBytes = 0;
  private queuedFds = 0;
  private memory: ClientMemory | null = null;
  private handshake: Deadline | null;
  private busy = false;
  /** The device was opened, and is this session's to close. */
  private opened = false;
  private domainBefore: DmaAddressSpace | null = null;
  /** Memory of BARs whose descriptor the client has. */
  private readonly shared = new Set<Memory>();

  constructor(host: SessionHost, vdev: VfioPciCoreDevice, socket: OwnedFd) {
    this.host = host;
    this.vdev = vdev;
    this.exports = host.exports;
    this.ioFds = new IoFds(host.loop, vdev);
    this.peerPid = peerCredentials(socket).pid;
    this.connection = new Connection(host.loop, socket, {
      onFrame: (frame) => this.onFrame(frame),
      onClose: (why) => this.onClose(why),
    });
    this.handshake = host.loop.after(LIMITS.handshakeTimeoutMs, () => {
      this.connection.close(new Errno('ETIMEDOUT', `no VERSION within ${LIMITS.handshakeTimeoutMs} ms`));
    });
  }

  close(why: Error | null): void {
    this.connection.close(why);
  }

  /** The client gets the descriptor of a BAR's memory, and may map it until its session ends. */
  share(memory: Memory): void {
    if (this.shared.has(memory)) return;
    this.shared.add(memory);
    this.exports.bars.hold(memory);
  }

  /** The device is about to be reset: its DMA that waits for the client fails at once. */
  abortDma(): void {
    this.memory?.abort();
  }

  private onFrame(frame: ReceivedFrame): boolean {
    if (frame.isReply) {
      for (const fd of frame.fds) fd.close();
      if (this.memory === null) throw new Errno('EPROTO', 'a reply before the first command');
      if (this.twin !== null) throw new Errno('EPROTO', 'a reply that belongs on the twin socket');
      this.memory.onReply(frame);
      return false;
    }
    if (this.host.trace !== null) traceRequest(this.host.trace, this.vdev.pdev.name, frame);
    if (this.busy) {
      this.enqueue(frame);
      return false;
    }
    if (this.regions !== null && this.accessNow(frame)) return false;
    this.busy = true;
    const task = runner.start(`request ${frame.command} of ${this.vdev.pdev.name}`, this.serve(frame));
    return !task.ended;
  }

  /** The short way of a read or write of plain bytes, without a task; false where it takes the long one. */
  private accessNow(frame: ReceivedFrame): boolean {
    let error = 0;
    try {
      if (!regionAccessNow(this as ReadySession, frame, this.reply)) return false;
    } catch (thrown) {
      error = this.errorOf(thrown);
    }
    if (!frame.noReply) this.sendReply(frame, error);
    return true;
  }

  private errorOf(thrown: unknown): number {
    this.reply.begin();
    if (thrown instanceof Errno) return thrown.code;
    this.host.log(`${this.vdev.pdev.name}: ${(thrown as Error).stack}`);
    return ERRNO.EIO;
  }

  private enqueue(frame: Frame): void {
    const { id, command, isReply, noReply, error, fds } = frame;
    // A copy: what Buffer.slice gives shares the memory, and that is received into again.
    this.queue.push({ id, command, isReply, noReply, error, fds, payload: Buffer.from(frame.payload) });
    this.queuedBytes += frame.payload.length;
    this.queuedFds += frame.fds.length;
    if (this.isQueueAbove(1)) this.connection.setPaused(true);
  }

  private isQueueAbove(part: number): boolean {
    return (
      this.queue.length >= LIMITS.maxPendingRequests * part ||
      this.queuedBytes >= LIMITS.maxPendingBytes * part ||
      this.queuedFds >= LIMITS.maxPendingFds * part
    );
  }

  /** Serves a request and those that came meanwhile, one after the other, as the protocol wants. */
  private *serve(first: Frame): Task {
    for (let frame: Frame | undefined = first; frame !== undefined; frame = this.nextQueued()) {
      if (this.connection.isOpen) yield* this.serveOne(frame);
      for (const fd of frame.fds) fd.close();
    }
    this.busy = false;
    if (!this.connection.isOpen) yield* this.end();
  }

  private nextQueued(): Frame | undefined {
    // What waits behind a pause is cut into frames as soon as it ends: look before taking.
    if (!this.isQueueAbove(LOW_WATER)) this.connection.setPaused(false);
    const next = this.queue.shift();
    if (next !== undefined) {
      this.queuedBytes -= next.payload.length;
      this.queuedFds -= next.fds.length;
    }
    return next;
  }

  private *serveOne(frame: Frame): Task {
    const { reply } = this;
    let error = 0;
    reply.begin();
    try {
      if (this.regions === null || frame.command === VFIO_USER_VERSION) yield* this.agree(frame);
      else yield* serveRequest(this as ReadySession, frame, reply);
    } catch (thrown) {
      error = this.errorOf(thrown);
    }
    if (!frame.noReply) this.sendReply(frame, error);
    for (const fd of reply.takeFds()) fd.close();
    if (this.regions === null) this.connection.close(new Errno('EPROTO', 'the handshake failed'));
  }

  private sendReply(frame: Frame, error: number): void {
    const { message, payloadBytes, fds } = this.reply;
    writeHeader(message.view, frame.id, frame.command, payloadBytes, VFIO_USER_F_TYPE_REPLY, error);
    this.connection.send(message, VFIO_USER_HEADER_SIZE + payloadBytes, fds);
  }

  /** VERSION, which comes first and once: opens the device. */
  private *agree(frame: Frame): Task {
    if (frame.command !== VFIO_USER_VERSION) throw new Errno('EPROTO', `command ${frame.command} before VERSION`);
    if (this.regions !== null) throw new Errno('EINVAL', 'a second VERSION');
    const proposed = decodeVersion(frame.payload);
    this.host.claim(this);
    yield* this.vdev.open();
    this.opened = true;
    const offer: VersionOffer = {
      writeMultiple: proposed.writeMultiple,
      migration: proposed.migration !== null && this.vdev.migration !== null,
      twinSocket: false,
    };
    if (proposed.twinSocket && proposed.maxMsgFds > 0) {
      this.openTwin();
      offer.twinSocket = 0;
    }
    const memory = new ClientMemory(
      this.host.loop,
      proposed.maxDataXferBytes,
      (message, length) => (this.twin ?? this.connection).send(message, length),
      () => this.connection.close(new Errno('ETIMEDOUT', `no answer within ${LIMITS.dmaReplyTimeoutMs} ms`)),
    );
    const { trace } = this.host;
    if (trace !== null) memory.onDone = (dma) => traceDma(trace, this.vdev.pdev.name, dma);
    const regions = new DmaRegions(this.vdev.pdev.name, memory, this.exports, proposed);
    yield* regions.start();
    this.domainBefore = this.vdev.pdev.iommuDomain;
    this.vdev.pdev.iommuDomain = regions.domain;
    this.memory = memory;
    this.regions = regions;
    this.capabilities = proposed;
    if (this.handshake !== null) this.host.loop.cancel(this.handshake);
    this.handshake = null;
    this.reply.append(encodeVersion(offer));
  }

  /** A second socket for the commands of the server: the client's end goes with the reply. Replies alone come back. */
  private openTwin(): void {
    const [ours, theirs] = socketPair(`twin socket of ${this.vdev.pdev.name}`);
    this.reply.attach(theirs);
    this.twin = new Connection(this.host.loop, ours, {
      onFrame: (frame) => {
        for (const fd of frame.fds) fd.close();
        if (!frame.isReply) throw new Errno('EPROTO', `command ${frame.command} on the twin socket`);
        this.memory?.onReply(frame);
        return false;
      },
      onClose: (why) => this.connection.close(why),
    });
  }

  private onClose(why: Error | null): void {
    if (why !== null) this.host.log(`${this.vdev.pdev.name}: client dropped: ${why.message}`);
    if (this.handshake !== null) this.host.loop.cancel(this.handshake);
    this.twin?.close(null);
    this.ioFds.close();
    this.memory?.close();
    for (const frame of this.queue.splice(0)) for (const fd of frame.fds) fd.close();
    // A request that is being served ends first, and then the session.
    if (!this.busy) runner.start(`end of a client of ${this.vdev.pdev.name}`, this.end());
  }

  /** Everything that the client had goes; buffers that others hold stay, revoked for good. */
  private *end(): Task {
    const { regions, vdev } = this;
    // First the device, so that nothing of it is under way any more; then the memory that it might have reached.
    if (this.opened) yield* vdev.close();
    if (regions !== null) {
      vdev.pdev.iommuDomain = this.domainBefore;
      yield* regions.destroy();
    }
    for (const memory of this.shared) yield* this.exports.bars.drop(memory, false);
    this.host.onEnd(this);
    this.twin?.hangUp();
    this.connection.hangUp();
  }
}

/** A session past its handshake. */
export type ReadySession = Session & { regions: DmaRegions; capabilities: Capabilities };
