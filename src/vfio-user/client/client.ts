/** A blocking client for command lines, tests and tools. Server and client may be threads of one process. */
import { Errno } from '../../abi/errno.ts';
import { vfio_irq_info, vfio_irq_set, vfio_pci_hot_reset } from '../../abi/vfio.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../abi/vfio-type1.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_MULTI_DATA,
  VFIO_USER_MULTI_MAX,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_device_info,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
  vfio_user_region_io_fds,
} from '../../abi/vfio-user.ts';
import { Mapping } from '../../linux/mapping.ts';
import type { DependentDevice } from '../../vfio/reset.ts';
import { LIMITS } from '../wire/frame.ts';
import { type Answer, ClientChannel, replyOf } from './channel.ts';
import { hotResetInfoOf } from './hot-reset.ts';
import { RegionIoFds, type SubRegion } from './io-fds.ts';
import { type ClientRegionInfo, regionInfoOf } from './region-info.ts';
import { type RegionWrite, writeBatch } from './write-multi.ts';

/** One connection to one device, with a method for each command. channel.ts documents the calls. */
export class VfioUserClient extends ClientChannel {
  /** The mapped regions: sizes by IOVA, no more than the server takes. */
  private readonly maps = new Map<number, number>();
  private readonly ioFds = new Map<number, RegionIoFds>();

  info(): { flags: number; numRegions: number; numIrqs: number } {
    const argsz = vfio_user_device_info.sizeof;
    const { payload } = this.call(VFIO_USER_DEVICE_GET_INFO, vfio_user_device_info.encode({ argsz }));
    const { flags, num_regions, num_irqs } = vfio_user_device_info.read(replyOf(payload, vfio_user_device_info));
    return { flags, numRegions: num_regions, numIrqs: num_irqs };
  }

  /** Asks for a region's info. The caller closes `map.fd`. */
  regionInfo(index: number): ClientRegionInfo {
    return regionInfoOf(this, index);
  }

  /** Maps a slice of a BAR. EINVAL where the server shares no memory for it. */
  mapRegion(index: number, offset: number, sizeBytes: number): Mapping {
    const { map } = this.regionInfo(index);
    const inside = map?.areas.some(
      (area) => area.offset <= offset && offset + sizeBytes <= area.offset + area.sizeBytes,
    );
    try {
      if (map === null || inside !== true)
        throw new Errno('EINVAL', `region ${index} of ${this.path} cannot be mapped there`);
      const what = `region ${index} of ${this.path}`;
      return Mapping.map({ fd: map.fd.fd, offset: map.fdOffset + offset, sizeBytes, writable: true, what });
    } finally {
      map?.fd.close();
    }
  }

  irqInfo(index: number): { flags: number; count: number } {
    const argsz = vfio_irq_info.sizeof;
    const { payload } = this.call(VFIO_USER_DEVICE_GET_IRQ_INFO, vfio_irq_info.encode({ argsz, index }));
    const { flags, count } = vfio_irq_info.read(replyOf(payload, vfio_irq_info));
    return { flags, count };
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
    data: Uint8Array = NOTHING,
    eventfds: readonly number[] = [],
  ): void {
    const most = this.capabilities.maxMsgFds;
    if (eventfds.length > most && eventfds.length === count && most > 0) {
      this.setIrqs(flags, index, start, count, data);
      for (let at = 0; at < count; at += most) {
        const part = eventfds.slice(at, at + most);
        this.setIrqs(flags, index, start + at, part.length, data, part);
      }
      return;
    }
    const argsz = vfio_irq_set.sizeof + data.length;
    const payload = vfio_irq_set.encode({ argsz, flags, index, start, count }, data.length);
    payload.set(data, vfio_irq_set.sizeof);
    this.call(VFIO_USER_DEVICE_SET_IRQS, payload, eventfds);
  }

  /** Fills `into` from a region, in several messages if needed. EIO while memory is off. */
  readRegion(region: number, offset: number, into: Uint8Array): void {
    const head = vfio_user_region_access.sizeof;
    for (let at = 0; at < into.length; ) {
      const count = Math.min(into.length - at, this.capabilities.maxDataXferBytes);
      const request = vfio_user_region_access.encode({ offset: offset + at, region, count });
      const { payload } = this.call(VFIO_USER_REGION_READ, request);
      const length = vfio_user_region_access.fields.count.get(replyOf(payload, vfio_user_region_access));
      if (length === 0 || length > count || payload.length !== head + length) {
        throw new Errno('EPROTO', `REGION_READ of ${count} bytes answered with ${length}`);
      }
      into.set(payload.subarray(head), at);
      at += length;
    }
  }

  /**
   * Writes to a region. A posted write does not wait, and its failure is not reported. A posted write to a place with
   * an eventfd (`useIoFds`) sends no message.
   */
  writeRegion(region: number, offset: number, from: Uint8Array, posted = false): void {
    if (posted && this.ioFds.get(region)?.ring(offset, from) === true) return;
    for (let at = 0; at < from.length; ) {
      const part = from.subarray(at, at + this.capabilities.maxDataXferBytes);
      const payload = vfio_user_region_access.encode({ offset: offset + at, region, count: part.length }, part.length);
      payload.set(part, vfio_user_region_access.sizeof);
      if (posted) this.post(VFIO_USER_REGION_WRITE, payload);
      else this.call(VFIO_USER_REGION_WRITE, payload);
      at += part.length;
    }
  }

  /**
   * Does writes of at most 8 bytes each, in order, many in a message. Returns how many were done before the first
   * failure. Sends them one by one where the server lacks WRITE_MULTI.
   */
  writeRegions(writes: readonly RegionWrite[]): number {
    const tooLong = writes.find(({ bytes }) => bytes.length > VFIO_USER_MULTI_DATA);
    if (tooLong !== undefined) throw new Errno('EINVAL', `WRITE_MULTI: a write of ${tooLong.bytes.length} bytes`);
    const most = this.capabilities.writeMultiple ? VFIO_USER_MULTI_MAX : 1;
    let done = 0;
    while (done < writes.length) {
      const batch = writes.slice(done, done + most);
      const count = most === 1 ? this.writeOne(batch[0]) : writeBatch(this, batch);
      done += count;
      if (count < batch.length) break;
    }
    return done;
  }

  /**
   * GET_REGION_IO_FDS: gets the eventfds for places of a region; posted writes use them from now on. Returns the
   * places. EPROTO for places outside the region. The client owns the descriptors.
   */
  useIoFds(index: number): readonly SubRegion[] {
    const { map, sizeBytes } = this.regionInfo(index);
    map?.fd.close();
    const ask = (argsz: number) =>
      this.call(VFIO_USER_DEVICE_GET_REGION_IO_FDS, vfio_user_region_io_fds.encode({ argsz, index }));
    let answer = ask(vfio_user_region_io_fds.sizeof);
    const wanted = vfio_user_region_io_fds.fields.argsz.get(replyOf(answer.payload, vfio_user_region_io_fds));
    if (wanted > vfio_user_region_io_fds.sizeof && wanted <= LIMITS.maxMessageBytes) {
      for (const fd of answer.fds) fd.close();
      answer = ask(wanted);
    }
    const fds = new RegionIoFds(answer, sizeBytes);
    this.ioFds.get(index)?.close();
    this.ioFds.set(index, fds);
    return fds.places;
  }

  /**
   * DMA_MAP: maps memory of a file or a lent dma-buf by its descriptor, which stays the caller's. Without a descriptor,
   * the device reaches `memory`. ENOSPC beyond the server's limit, EINVAL for a range smaller than the agreed page.
   */
  dmaMap(iova: number, sizeBytes: number, flags: number, fd: number | null = null, offset = 0): void {
    const { maxDmaMaps, pageBytes } = this.capabilities;
    if (this.maps.size >= maxDmaMaps) throw new Errno('ENOSPC', `${this.path} takes ${maxDmaMaps} DMA_MAPs`);
    if (iova % pageBytes !== 0 || sizeBytes % pageBytes !== 0) {
      throw new Errno('EINVAL', `DMA_MAP of ${sizeBytes} bytes at ${iova}: ${this.path} maps pages of ${pageBytes}`);
    }
    const argsz = vfio_user_dma_map.sizeof;
    const payload = vfio_user_dma_map.encode({ argsz, flags, offset, addr: iova, size: sizeBytes });
    this.call(VFIO_USER_DMA_MAP, payload, fd === null ? [] : [fd]);
    this.maps.set(iova, sizeBytes);
  }

  /** DMA_UNMAP; returns the bytes that were unmapped. */
  dmaUnmap(iova: number, sizeBytes: number, flags = 0): number {
    const payload = vfio_user_dma_unmap.encode({
      argsz: vfio_user_dma_unmap.sizeof,
      flags,
      addr: iova,
      size: sizeBytes,
    });
    const answer = this.call(VFIO_USER_DMA_UNMAP, payload);
    const end = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0 ? Number.POSITIVE_INFINITY : iova + sizeBytes;
    if (this.maps.get(iova) === sizeBytes) this.maps.delete(iova);
    else for (const start of this.maps.keys()) if (start >= iova && start < end) this.maps.delete(start);
    return vfio_user_dma_unmap.fields.size.get(replyOf(answer.payload, vfio_user_dma_unmap));
  }

  /** DEVICE_FEATURE on an argument that starts with its header (struct vfio_device_feature). */
  feature(argument: Uint8Array, fds: readonly number[] = []): Answer {
    return this.call(VFIO_USER_DEVICE_FEATURE, argument, fds);
  }

  reset(): void {
    this.call(VFIO_USER_DEVICE_RESET, NOTHING);
  }

  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO (an extension): the devices that a hot reset would hit. */
  hotResetInfo(): DependentDevice[] {
    return hotResetInfoOf(this);
  }

  /** VFIO_DEVICE_PCI_HOT_RESET (an extension). This process must have every other device of the set that is in use. */
  hotReset(): void {
    this.call(VFIO_USER_X_PCI_HOT_RESET, vfio_pci_hot_reset.encode({ argsz: vfio_pci_hot_reset.sizeof }));
  }

  override close(): void {
    for (const fds of this.ioFds.values()) fds.close();
    this.ioFds.clear();
    super.close();
  }

  private writeOne({ region, offset, bytes }: RegionWrite): number {
    try {
      this.writeRegion(region, offset, bytes);
      return 1;
    } catch (error) {
      if (!(error instanceof Errno) || error.code === 'ECONNRESET') throw error;
      return 0;
    }
  }
}

const NOTHING = new Uint8Array(0);
