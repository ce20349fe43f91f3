/** A client after its handshake: its capabilities, its resources, and their release. */
import { Errno } from '../../abi/errno.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { socketPair } from '../../linux/socket.ts';
import type { DmaAddressSpace } from '../../pci/dma.ts';
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import { ClientFiles, type Exports } from '../dma-buf/exports.ts';
import { Connection } from '../wire/connection.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { type Frame, LIMITS, type ReceivedFrame } from '../wire/frame.ts';
import type { Capabilities } from '../wire/version.ts';
import { ClientMemory } from './client-memory.ts';
import { DmaRegions } from './dma-regions.ts';
import { IoFds } from './io-fds.ts';
import type { RequestContext } from './request-context.ts';
import type { Client, SessionHost } from './session-host.ts';

export class Session implements RequestContext {
  readonly vdev: VfioPciCoreDevice;
  readonly loop: EventLoop;
  readonly files = new ClientFiles();
  readonly exports: Exports;
  readonly regions: DmaRegions;
  readonly capabilities: Capabilities;
  readonly ioFds: IoFds;
  private readonly host: SessionHost;
  private readonly client: Client;
  private readonly main: Connection;
  private readonly memory: ClientMemory;
  /** The socket for DMA_READ and DMA_WRITE, when VERSION agreed on a second one. */
  private twin: Connection | null = null;
  private readonly domainBefore: DmaAddressSpace | null;
  /** Memory of BARs for which the client has the descriptor. */
  private readonly shared = new Set<Memory>();

  /** `vdev` is open; the session closes it. */
  constructor(
    host: SessionHost,
    client: Client,
    vdev: VfioPciCoreDevice,
    main: Connection,
    capabilities: Capabilities,
  ) {
    this.host = host;
    this.client = client;
    this.vdev = vdev;
    this.main = main;
    this.loop = host.loop;
    this.exports = host.exports;
    this.capabilities = capabilities;
    this.ioFds = new IoFds(host.loop, vdev);
    this.memory = new ClientMemory(
      host.loop,
      capabilities.maxDataXferBytes,
      (message, length) => (this.twin ?? main).send(message, length),
      () => {
        const reason = `no answer within ${LIMITS.dmaReplyTimeoutMs} ms`;
        main.close(beyondLimit('dmaReplyTimeoutMs', 'ETIMEDOUT', reason));
      },
    );
    const { monitor } = host;
    if (monitor !== null) this.memory.onDone = (dma) => monitor.dma(dma);
    this.regions = new DmaRegions(vdev.pdev.name, this.memory, host.exports, capabilities);
    this.domainBefore = vdev.pdev.iommuDomain;
  }

  *start(): Task {
    yield* this.regions.start();
    this.vdev.pdev.iommuDomain = this.regions.domain;
  }

  /** Opens a second socket for the server's commands, and returns the client's end. Only replies come back on it. */
  openTwin(): OwnedFd {
    const [ours, theirs] = socketPair(`twin socket of ${this.vdev.pdev.name}`);
    const { connectionNumber, peerPid } = this.client;
    const tap = this.host.taps?.of('twin', this.vdev.pdev.name, connectionNumber, peerPid) ?? null;
    const events = {
      onFrame: (frame: ReceivedFrame) => {
        for (const fd of frame.fds) fd.close();
        if (!frame.isReply) throw new Errno('EPROTO', `command ${frame.command} on the twin socket`);
        this.memory.onReply(frame);
        return false;
      },
      onClose: (why: Error | null) => this.main.close(why),
    };
    this.twin = new Connection(this.loop, ours, events, tap);
    return theirs;
  }

  share(memory: Memory): void {
    if (this.shared.has(memory)) return;
    this.shared.add(memory);
    this.exports.bars.hold(memory);
  }

  abortDma(): void {
    this.memory.abort();
  }

  mayReset(device: VfioPciCoreDevice): boolean {
    const owner = this.host.ownerOf(device);
    const { peerPid } = this.client;
    return owner === null || owner === this.client || (peerPid > 0 && owner.peerPid === peerPid);
  }

  /** Takes a reply on the main socket. EPROTO where replies belong on the twin socket. */
  onReply(frame: Frame): void {
    if (this.twin !== null) throw new Errno('EPROTO', 'a reply that belongs on the twin socket');
    this.memory.onReply(frame);
  }

  /** Marks the connection closed: nothing may wait for the client any longer. */
  close(): void {
    this.twin?.close(null);
    this.ioFds.close();
    this.memory.close();
  }

  /**
   * Releases everything that the client had. Buffers that others hold stay, revoked for good. Never throws: it logs
   * each failure and continues.
   */
  *end(): Task {
    const { regions, vdev } = this;
    // Close the device first, so that nothing of it is under way; then release the memory that it might have reached.
    yield* this.attempt('close of the device', vdev.close());
    vdev.pdev.iommuDomain = this.domainBefore;
    yield* this.attempt('release of its memory', regions.destroy());
    for (const memory of this.shared) yield* this.attempt('move of a BAR', this.exports.bars.drop(memory, false));
  }

  private *attempt(what: string, task: Task): Task {
    try {
      yield* task;
    } catch (error) {
      this.host.log(`${this.vdev.pdev.name}: end of a client: ${what}: ${(error as Error).message}`, {
        level: 'error',
        cause: 'release',
        client: this.vdev.pdev.name,
      });
    }
  }

  /** Closes the sockets after `end`; the peer learns that all is released. */
  hangUp(): void {
    this.twin?.hangUp();
  }
}
