/** A client for VMMs and tests: every command is a promise, and other work goes on while it waits. */
import { EPOLLIN } from '../../abi/poll.ts';
import { VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE } from '../../abi/vfio.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../abi/vfio-user.ts';
import { loopPoll } from '../../linux/loop-poll.ts';
import type { Mapping } from '../../linux/mapping.ts';
import type { Capabilities } from '../wire/version.ts';
import { AsyncChannel, type AsyncClientOptions, type CallOptions, connectSocket } from './async-channel.ts';
import { type ClientDeviceInfo, type ClientIrqInfo, deviceInfo, irqInfo, resetDevice } from './device-info.ts';
import type { ClientDmaMemory } from './dma-answer.ts';
import { DmaMaps, type Iova } from './dma-maps.ts';
import { type Answer, CALL_TIMEOUT_MS, type Exchange, type Peer } from './exchange.ts';
import { deviceFeature } from './feature.ts';
import { PCI_IRQ_NAMES } from './flag-names.ts';
import { setIrqs } from './irqs.ts';
import { readMigrationChunk } from './migration.ts';
import { readRegion, writeRegion } from './region-access.ts';
import { type ClientRegionInfo, regionInfo } from './region-info.ts';
import { mapRegion } from './region-map.ts';
import { type RegionWrite, writeRegions } from './write-multi.ts';

/** An interrupt index of a PCI device. */
export type IrqName = (typeof PCI_IRQ_NAMES)[number];

/** Memory to map for a device. */
export interface DmaMapOptions {
  /** The address that the device uses. */
  iova: Iova;
  /** Bytes, a multiple of the page size that both sides agreed on. */
  sizeBytes: Iova;
  /** The file of the memory, which stays the caller's. Without it the device sends DMA_READ and DMA_WRITE. */
  fd?: number;
  /** The memory's offset in the file. Default: 0. */
  offset?: Iova;
  /** Whether the device may read it. Default: true. */
  read?: boolean;
  /** Whether the device may write it. Default: true. */
  write?: boolean;
}

/**
 * One connection to one device. Errors are those of VfioUserClient: a RefusedError for a refusal of the server, a
 * LostError once the connection is of no more use. Several calls may wait at once.
 */
export class AsyncVfioUserClient implements Peer {
  /** The path of the socket. */
  readonly path: string;
  /** The limits that both sides agreed on. */
  readonly capabilities: Capabilities;
  private readonly channel: AsyncChannel;
  private readonly maps = new DmaMaps();

  private constructor(channel: AsyncChannel, capabilities: Capabilities) {
    this.channel = channel;
    this.path = channel.path;
    this.capabilities = capabilities;
  }

  /**
   * Connects and agrees on a version. ENOENT or ECONNREFUSED without a listener, EBUSY while the device has another
   * client, ETIMEDOUT when the server does not accept, or is silent.
   */
  static async connect(path: string, options: AsyncClientOptions = {}): Promise<AsyncVfioUserClient> {
    const channel = new AsyncChannel(await connectSocket(path, options), path, options.timeoutMs ?? CALL_TIMEOUT_MS);
    try {
      return new AsyncVfioUserClient(channel, await channel.handshake(options));
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  /** Answers the device's DMA to memory that was mapped without a descriptor. */
  set memory(memory: ClientDmaMemory | null) {
    this.channel.memory = memory;
  }

  /** Runs any exchange of this library, such as `migrationState()`. */
  run<T>(exchange: Exchange<T>, options: CallOptions = {}): Promise<T> {
    return this.channel.run(exchange, options);
  }

  /** DEVICE_GET_INFO: flags, and the numbers of regions and interrupt indices. */
  info(options?: CallOptions): Promise<ClientDeviceInfo> {
    return this.run(deviceInfo(), options);
  }

  /** Asks for a region's info. The caller closes `map.fd`. EPROTO for a reply that contradicts itself. */
  regionInfo(index: number, options?: CallOptions): Promise<ClientRegionInfo> {
    return this.run(regionInfo(index), options);
  }

  /** Maps a slice of a BAR. EINVAL where the server shares no memory for it, or less than it says. */
  mapRegion(index: number, offset: number, sizeBytes: number, options?: CallOptions): Promise<Mapping> {
    return this.run(mapRegion(this, index, offset, sizeBytes), options);
  }

  /** DEVICE_GET_IRQ_INFO: how many interrupts an index has. */
  irqInfo(irq: IrqName, options?: CallOptions): Promise<ClientIrqInfo> {
    return this.run(irqInfo(PCI_IRQ_NAMES.indexOf(irq)), options);
  }

  /** The device signals these eventfds, which stay the caller's, for its interrupts from `start` on. */
  setEventfds(irq: IrqName, eventfds: readonly number[], start = 0, options?: CallOptions): Promise<void> {
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    const index = PCI_IRQ_NAMES.indexOf(irq);
    return this.run(setIrqs(this, { flags, index, start, count: eventfds.length, eventfds }), options);
  }

  /** Switches all interrupts of an index off. */
  disableIrqs(irq: IrqName, options?: CallOptions): Promise<void> {
    const flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    return this.run(setIrqs(this, { flags, index: PCI_IRQ_NAMES.indexOf(irq), start: 0, count: 0 }), options);
  }

  /** Returns `length` bytes of a region, in as many messages as the server's limit demands. */
  async readRegion(region: number, offset: number, length: number, options?: CallOptions): Promise<Buffer> {
    const into = Buffer.alloc(length);
    await this.run(readRegion(this, region, offset, into), options);
    return into;
  }

  /** Writes to a region. EIO where the server did only a part. */
  writeRegion(region: number, offset: number, from: Uint8Array, options?: CallOptions): Promise<void> {
    return this.run(writeRegion(this, region, offset, from), options);
  }

  /** Writes without a reply: a failure is not reported. */
  postWrite(region: number, offset: number, from: Uint8Array): Promise<void> {
    return this.run(writeRegion(this, region, offset, from, true));
  }

  /** Does writes of at most 8 bytes each, in order. Returns how many were done before the first that was refused. */
  writeRegions(writes: readonly RegionWrite[], options?: CallOptions): Promise<number> {
    return this.run(writeRegions(this, writes), options);
  }

  /** ENOSPC beyond the server's limit, EINVAL for a range that is not in pages that both sides map. */
  dmaMap(map: DmaMapOptions, options?: CallOptions): Promise<void> {
    const { iova, sizeBytes, fd = null, offset = 0, read = true, write = true } = map;
    const flags = (read ? VFIO_USER_F_DMA_REGION_READ : 0) | (write ? VFIO_USER_F_DMA_REGION_WRITE : 0);
    return this.run(this.maps.map(this, { iova, sizeBytes, flags, fd, offset }), options);
  }

  /** Returns the bytes that were unmapped. */
  dmaUnmap(iova: Iova, sizeBytes: Iova, options?: CallOptions): Promise<number> {
    return this.run(this.maps.unmap(iova, sizeBytes, 0), options);
  }

  /** DEVICE_FEATURE on an argument that starts with its header. The caller closes the reply's descriptors. */
  feature(argument: Uint8Array, fds: readonly number[] = [], options?: CallOptions): Promise<Answer> {
    return this.run(deviceFeature(argument, fds), options);
  }

  /** Reads all that the device's migration stream has now, in pieces of one message each. */
  async *migrationData(options?: CallOptions): AsyncGenerator<Buffer> {
    for (;;) {
      const piece = await this.run(readMigrationChunk(this), options);
      if (piece.length === 0) return;
      yield piece;
    }
  }

  /** DEVICE_RESET: revokes, resets, restores. RefusedError where the device cannot be reset. */
  reset(options?: CallOptions): Promise<void> {
    return this.run(resetDevice(), options);
  }

  /** Ends the connection: the device is closed and revokes what it lent. Waiting calls reject. */
  close(): void {
    this.channel.close();
  }

  /** As `close`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/** Resolves when `fd`, such as an eventfd, can be read. Rejects with the reason of `signal`. */
export function whenReadable(fd: number, { signal }: CallOptions = {}): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const onAbort = () => end(() => reject(signal?.reason));
    const key = loopPoll.add(fd, EPOLLIN, () => end(resolve));
    signal?.addEventListener('abort', onAbort);
    function end(settle: () => void): void {
      loopPoll.remove(key);
      signal?.removeEventListener('abort', onAbort);
      settle();
    }
  });
}
