/** A blocking client for command lines, tests and tools. Server and client may be threads of one process. */
import type { Mapping } from '../../linux/mapping.ts';
import type { DependentDevice } from '../../vfio/reset.ts';
import { ClientChannel } from './channel.ts';
import { type ClientDeviceInfo, type ClientIrqInfo, deviceInfo, irqInfo, resetDevice } from './device-info.ts';
import { DmaMaps, type Iova } from './dma-maps.ts';
import type { Answer } from './exchange.ts';
import { deviceFeature } from './feature.ts';
import { hotReset, hotResetInfo } from './hot-reset.ts';
import { type RegionIoFds, regionIoFds, type SubRegion } from './io-fds.ts';
import { setIrqs } from './irqs.ts';
import { readMigrationChunk } from './migration.ts';
import { readRegion, writeRegion } from './region-access.ts';
import { type ClientRegionInfo, regionInfo } from './region-info.ts';
import { mapRegion } from './region-map.ts';
import { type RegionWrite, writeRegions } from './write-multi.ts';

/** One connection to one device, with a method for each command. channel.ts documents the calls. */
export class VfioUserClient extends ClientChannel {
  private readonly maps = new DmaMaps();
  private readonly ioFds = new Map<number, RegionIoFds>();

  /** DEVICE_GET_INFO: flags, and the numbers of regions and interrupt indices. */
  info(): ClientDeviceInfo {
    return this.run(deviceInfo());
  }

  /** Asks for a region's info. The caller closes `map.fd`. EPROTO for a reply that contradicts itself. */
  regionInfo(index: number): ClientRegionInfo {
    return this.run(regionInfo(index));
  }

  /**
   * Maps a slice of a BAR. EINVAL where the server shares no memory for it, or less than it says. A file that the
   * server can still truncate is mapped guarded (linux/mapping.ts).
   */
  mapRegion(index: number, offset: number, sizeBytes: number): Mapping {
    return this.run(mapRegion(this, index, offset, sizeBytes));
  }

  /** DEVICE_GET_IRQ_INFO of a VFIO_PCI_..._IRQ_INDEX: how many interrupts it has. */
  irqInfo(index: number): ClientIrqInfo {
    return this.run(irqInfo(index));
  }

  /**
   * SET_IRQS. Eventfds travel as descriptors and stay the caller's. When they are too many for one message, the first
   * message enables all interrupts, because MSI does not grow. Further messages carry the remaining eventfds.
   */
  setIrqs(
    flags: number,
    index: number,
    start: number,
    count: number,
    data?: Uint8Array,
    eventfds?: readonly number[],
  ): void {
    this.run(setIrqs(this, { flags, index, start, count, data, eventfds }));
  }

  /** Fills `into` from a region, in several messages if needed. EIO while memory is off. */
  readRegion(region: number, offset: number, into: Uint8Array): void {
    this.run(readRegion(this, region, offset, into));
  }

  /**
   * Writes to a region. EIO where the server did only a part. A posted write does not wait, and its failure is not
   * reported. A posted write to a place with an eventfd (`useIoFds`) sends no message.
   */
  writeRegion(region: number, offset: number, from: Uint8Array, posted = false): void {
    if (posted && this.ioFds.get(region)?.ring(offset, from) === true) return;
    this.run(writeRegion(this, region, offset, from, posted));
  }

  /**
   * Does writes of at most 8 bytes each, in order, many in a message. Returns how many were done before the first that
   * the server refused. Sends them one by one where the server lacks WRITE_MULTI.
   */
  writeRegions(writes: readonly RegionWrite[]): number {
    return this.run(writeRegions(this, writes));
  }

  /**
   * GET_REGION_IO_FDS: gets the eventfds for places of a region; posted writes use them from now on. Returns the
   * places. EPROTO for places outside the region. The client owns the descriptors.
   */
  useIoFds(index: number): readonly SubRegion[] {
    const fds = this.run(regionIoFds(index));
    this.ioFds.get(index)?.close();
    this.ioFds.set(index, fds);
    return fds.places;
  }

  /**
   * DMA_MAP: maps memory of a file or a lent dma-buf by its descriptor, which stays the caller's. Without a descriptor,
   * the device reaches `memory`. ENOSPC beyond the server's limit, EINVAL for a range smaller than the agreed page.
   */
  dmaMap(iova: Iova, sizeBytes: Iova, flags: number, fd: number | null = null, offset: Iova = 0): void {
    this.run(this.maps.map(this, { iova, sizeBytes, flags, fd, offset }));
  }

  /** DMA_UNMAP; returns the bytes that were unmapped. */
  dmaUnmap(iova: Iova, sizeBytes: Iova, flags = 0): number {
    return this.run(this.maps.unmap(iova, sizeBytes, flags));
  }

  /**
   * DEVICE_FEATURE on an argument that starts with its header (struct vfio_device_feature). The caller closes the
   * reply's descriptors.
   */
  feature(argument: Uint8Array, fds: readonly number[] = []): Answer {
    return this.run(deviceFeature(argument, fds));
  }

  /** Reads all that the device's migration stream has now, in pieces of one message each. */
  *migrationData(): Generator<Buffer> {
    for (;;) {
      const piece = this.run(readMigrationChunk(this));
      if (piece.length === 0) return;
      yield piece;
    }
  }

  /** DEVICE_RESET: revokes, resets, restores. RefusedError where the device cannot be reset. */
  reset(): void {
    this.run(resetDevice());
  }

  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO (an extension): the devices that a hot reset would hit. */
  hotResetInfo(): DependentDevice[] {
    return this.run(hotResetInfo());
  }

  /** VFIO_DEVICE_PCI_HOT_RESET (an extension). This process must have every other device of the set that is in use. */
  hotReset(): void {
    this.run(hotReset());
  }

  /** Ends the connection without waiting until the device is closed. Closing again does nothing. */
  override close(): void {
    for (const fds of this.ioFds.values()) fds.close();
    this.ioFds.clear();
    super.close();
  }
}
