import { Errno } from '../../abi/errno.ts';
import {
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_WRITE,
  vfio_device_info,
  vfio_irq_info,
  vfio_irq_set,
  vfio_region_info,
  vfio_region_info_cap_sparse_mmap,
  vfio_region_sparse_mmap_area,
} from '../../abi/vfio.ts';
import type { DeviceInfo, RegionInfo } from '../../vfio/regions.ts';
import type { OwnedFd } from '../fd.ts';
import { check, Pinned, sys } from '../ffi.ts';
import { type IoctlCall, ioctl, kernelIoctl } from '../ioctl.ts';
import { Mapping } from '../mapping.ts';
import { infoCapabilities } from './caps.ts';

/** The kernel's info on a region, beyond that of every vfio. */
export interface KernelRegionInfo extends RegionInfo {
  /**
   * The mappable areas, from the start of the region; null when the kernel does not list them (then the whole region).
   */
  sparseAreas: { offset: number; sizeBytes: number }[] | null;
}

/** The most bytes of an info struct. No kernel's comes near it; a larger argsz is refused. */
const MAX_INFO_SIZE = 1 << 16;

/**
 * An open vfio-pci device (linux/vfio.h, "IOCTLs for DEVICE file descriptors"). The methods are the ioctls, and throw
 * the kernel's Errno. Features are in feature.ts, hot reset in hot-reset.ts.
 *
 * Closing the descriptor releases the device only when its mappings are gone too: unmap them first.
 */
export class VfioDevice {
  readonly fd: OwnedFd;
  readonly name: string;
  readonly ioctlCall: IoctlCall;
  readonly #beforeClose: () => void;
  readonly #afterClose: () => void;
  readonly #regionOffsets = new Map<number, number>();

  /** Takes ownership of `fd`. `release` gives back the objects that opened the device: group, container, iommufd. */
  constructor(
    fd: OwnedFd,
    name: string,
    release: { before?: () => void; after?: () => void } = {},
    ioctlCall: IoctlCall = kernelIoctl,
  ) {
    this.fd = fd;
    this.name = name;
    this.ioctlCall = ioctlCall;
    this.#beforeClose = release.before ?? (() => {});
    this.#afterClose = release.after ?? (() => {});
  }

  info(): DeviceInfo {
    const argument = new Pinned(vfio_device_info.sizeof);
    vfio_device_info.fields.argsz.set(argument.view, 0, vfio_device_info.sizeof);
    this.ioctl(VFIO_DEVICE_GET_INFO, argument, 'VFIO_DEVICE_GET_INFO');
    const { flags, num_regions, num_irqs } = vfio_device_info.read(argument.view);
    return { flags, numRegions: num_regions, numIrqs: num_irqs };
  }

  /** EINVAL for an index that the device does not have; size 0 for a BAR that is not implemented. */
  regionInfo(index: number): KernelRegionInfo {
    let argument = this.#regionInfo(index, vfio_region_info.sizeof);
    const wanted = vfio_region_info.fields.argsz.get(argument.view);
    if (wanted > MAX_INFO_SIZE) throw new Errno('EPROTO', `region ${index} of ${this.name}: info of ${wanted} bytes`);
    if (wanted > vfio_region_info.sizeof) argument = this.#regionInfo(index, wanted);
    const { flags, cap_offset, size, offset } = vfio_region_info.read(argument.view);
    const info: KernelRegionInfo = { index, flags, sizeBytes: size, offset, sparseAreas: null, msixMappable: false };
    if ((flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0) {
      const { view, bytes } = argument;
      for (const capability of infoCapabilities(view, cap_offset, bytes.length)) {
        if (capability.id === VFIO_REGION_INFO_CAP_MSIX_MAPPABLE) info.msixMappable = true;
        if (capability.id === VFIO_REGION_INFO_CAP_SPARSE_MMAP) info.sparseAreas = sparseAreas(view, capability.offset);
      }
    }
    this.#regionOffsets.set(index, offset);
    return info;
  }

  irqInfo(index: number): { flags: number; count: number } {
    const argument = new Pinned(vfio_irq_info.sizeof);
    vfio_irq_info.write(argument.view, 0, { argsz: vfio_irq_info.sizeof, index });
    this.ioctl(VFIO_DEVICE_GET_IRQ_INFO, argument, `VFIO_DEVICE_GET_IRQ_INFO(${index})`);
    const { flags, count } = vfio_irq_info.read(argument.view);
    return { flags, count };
  }

  /**
   * VFIO_DEVICE_SET_IRQS: `flags` are one DATA and one ACTION bit; `data` is the trailing bytes. DATA_BOOL has one u8
   * per interrupt, DATA_EVENTFD one s32, DATA_NONE nothing.
   */
  setIrqs(flags: number, index: number, start: number, count: number, data: Uint8Array = new Uint8Array(0)): void {
    const argument = new Pinned(vfio_irq_set.sizeof + data.length);
    vfio_irq_set.write(argument.view, 0, { argsz: argument.bytes.length, flags, index, start, count });
    argument.bytes.set(data, vfio_irq_set.sizeof);
    const what = `VFIO_DEVICE_SET_IRQS(flags 0x${flags.toString(16)}, index ${index}, ${count} from ${start})`;
    this.ioctl(VFIO_DEVICE_SET_IRQS, argument, what);
  }

  /** Connects interrupts `start`... of an index with eventfds; -1 disconnects. The descriptors stay the caller's. */
  setIrqEventfds(action: number, index: number, start: number, eventfds: readonly number[]): void {
    const data = Buffer.alloc(4 * eventfds.length);
    for (const [i, eventfd] of eventfds.entries()) data.writeInt32LE(eventfd, 4 * i);
    this.setIrqs(VFIO_IRQ_SET_DATA_EVENTFD | action, index, start, eventfds.length, data);
  }

  /** Resets the device. EINVAL when it cannot be reset on its own; EAGAIN while another caller holds its bus. */
  reset(): void {
    this.ioctl(VFIO_DEVICE_RESET, null, 'VFIO_DEVICE_RESET');
  }

  /** Reads a region; returns the number of bytes. EIO while memory does not decode, EFAULT past config space. */
  readRegion(index: number, offset: number, target: Uint8Array): number {
    const at = this.#regionOffset(index) + offset;
    return check(
      sys.pread(this.fd.fd, target, target.length, at),
      () => `read of ${target.length} bytes at 0x${offset.toString(16)} of region ${index} of ${this.name}`,
    );
  }

  writeRegion(index: number, offset: number, source: Uint8Array): number {
    const at = this.#regionOffset(index) + offset;
    return check(
      sys.pwrite(this.fd.fd, source, source.length, at),
      () => `write of ${source.length} bytes at 0x${offset.toString(16)} of region ${index} of ${this.name}`,
    );
  }

  /**
   * Maps part of a region. Touching it while the device does not decode memory kills this process with SIGBUS. Use
   * `readRegion` where that may happen (it throws EIO). EINVAL when the region or that part of it cannot be mapped.
   */
  mapRegion(index: number, offset = 0, sizeBytes?: number): Mapping {
    const info = this.regionInfo(index);
    return Mapping.map({
      fd: this.fd.fd,
      offset: info.offset + offset,
      sizeBytes: sizeBytes ?? info.sizeBytes - offset,
      writable: (info.flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0,
      what: `region ${index} of ${this.name}`,
    });
  }

  /** Makes an ioctl on the device's descriptor; `what` names it in the error. Returns the kernel's result. */
  ioctl(request: number, argument: Pinned | number | null, what: string): number {
    return ioctl(this.ioctlCall, this.fd.fd, request, argument, () => `${what} on ${this.name}`);
  }

  /** Closes the device and the objects that opened it; doing so again does nothing. */
  close(): void {
    if (!this.fd.isOpen) return;
    try {
      this.#beforeClose();
    } finally {
      try {
        this.fd.close();
      } finally {
        this.#afterClose();
      }
    }
  }

  /** Gives back the objects that opened the device, after another owner closed its descriptor. */
  closed(): void {
    this.fd.release();
    this.#afterClose();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #regionInfo(index: number, argsz: number): Pinned {
    const argument = new Pinned(argsz);
    vfio_region_info.write(argument.view, 0, { argsz, index });
    this.ioctl(VFIO_DEVICE_GET_REGION_INFO, argument, `VFIO_DEVICE_GET_REGION_INFO(${index})`);
    return argument;
  }

  #regionOffset(index: number): number {
    return this.#regionOffsets.get(index) ?? this.regionInfo(index).offset;
  }
}

function sparseAreas(view: DataView, at: number): { offset: number; sizeBytes: number }[] {
  const count = vfio_region_info_cap_sparse_mmap.fields.nr_areas.get(view, at);
  const first = at + vfio_region_info_cap_sparse_mmap.sizeof;
  if (first + count * vfio_region_sparse_mmap_area.sizeof > view.byteLength) {
    throw new Errno('EPROTO', `${count} sparse areas do not fit in ${view.byteLength} bytes`);
  }
  return Array.from({ length: count }, (_, i) => {
    const area = vfio_region_sparse_mmap_area.read(view, first + i * vfio_region_sparse_mmap_area.sizeof);
    return { offset: area.offset, sizeBytes: area.size };
  });
}
