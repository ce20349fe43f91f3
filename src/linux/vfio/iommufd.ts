import { readdirSync } from 'node:fs';
import { Errno } from '../../abi/errno.ts';
import {
  IOMMU_DESTROY,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_COPY,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_IOAS_UNMAP,
  iommu_destroy,
  iommu_ioas_alloc,
  iommu_ioas_copy,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_unmap,
} from '../../abi/iommufd.ts';
import type { Fields, SettableOf, Struct } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '../../abi/vfio.ts';
import type { OwnedFd } from '../fd.ts';
import { Pinned } from '../ffi.ts';
import { type IoctlCall, ioctl, kernelIoctl } from '../ioctl.ts';
import { openDeviceNode } from './container.ts';
import { VfioDevice } from './device.ts';

const READ_WRITE = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
/**
 * vfio_device_bind_iommufd up to out_devid, attach_iommufd_pt up to pt_id, detach_iommufd_pt up to flags. Kernels
 * before the longer forms take these sizes.
 */
const BIND_ARGSZ = 16;
const ATTACH_ARGSZ = 12;
const DETACH_ARGSZ = 8;

/** An IOVA that the caller chose, or undefined for one that the kernel chooses. */
type OptionalIova = number | bigint | undefined;

/** /dev/iommu (linux/iommufd.h): I/O address spaces (IOAS), by id, with their mappings. */
export class Iommufd {
  readonly fd: OwnedFd;
  readonly #call: IoctlCall;

  constructor(fd: OwnedFd, call: IoctlCall = kernelIoctl) {
    this.fd = fd;
    this.#call = call;
  }

  static open(): Iommufd {
    return new Iommufd(openDeviceNode('/dev/iommu'));
  }

  /** Makes a new, empty address space; returns its id. */
  allocIoas(): number {
    const { view } = this.#ioctl(IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {}, 'IOMMU_IOAS_ALLOC');
    return iommu_ioas_alloc.fields.out_ioas_id.get(view);
  }

  /** Destroys any object. EBUSY while it is in use. */
  destroy(id: number): void {
    this.#ioctl(IOMMU_DESTROY, iommu_destroy, { id }, `IOMMU_DESTROY(${id})`);
  }

  /** Maps this process's memory; returns the IOVA. EEXIST where the range is taken. */
  map(ioas: number, address: number, length: number, iova: OptionalIova, flags = READ_WRITE): bigint {
    const values = { ...place(iova, flags), ioas_id: ioas, user_va: address, length };
    const { view } = this.#ioctl(IOMMU_IOAS_MAP, iommu_ioas_map, values, `IOMMU_IOAS_MAP(ioas ${ioas})`);
    return iommu_ioas_map.fields.iova.getBig(view);
  }

  /** Maps a memfd or (Linux 7.0 and later) a vfio-pci dma-buf from byte `start`; returns the IOVA. ENODEV: revoked. */
  mapFile(
    ioas: number,
    fd: number,
    start: number | bigint,
    length: number | bigint,
    iova: OptionalIova,
    flags = READ_WRITE,
  ): bigint {
    const values = { ...place(iova, flags), ioas_id: ioas, fd, start, length };
    const what = `IOMMU_IOAS_MAP_FILE(ioas ${ioas}, fd ${fd}, ${length} bytes at ${start})`;
    const { view } = this.#ioctl(IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, values, what);
    return iommu_ioas_map_file.fields.iova.getBig(view);
  }

  /** Copies exactly one mapping of another address space. */
  copy(
    to: number,
    from: number,
    fromIova: number | bigint,
    length: number | bigint,
    iova: OptionalIova,
    flags = READ_WRITE,
  ): bigint {
    const { iova: dst_iova, flags: copyFlags } = place(iova, flags);
    const values = { flags: copyFlags, dst_ioas_id: to, src_ioas_id: from, length, dst_iova, src_iova: fromIova };
    const { view } = this.#ioctl(IOMMU_IOAS_COPY, iommu_ioas_copy, values, `IOMMU_IOAS_COPY(${from} to ${to})`);
    return iommu_ioas_copy.fields.dst_iova.getBig(view);
  }

  /** Unmaps whole mappings; returns the bytes. ENOENT for an empty range, or one that cuts a mapping. */
  unmap(ioas: number, iova: number | bigint, length: number | bigint): bigint {
    const what = `IOMMU_IOAS_UNMAP(ioas ${ioas}, 0x${iova.toString(16)}, ${length} bytes)`;
    const { view } = this.#ioctl(IOMMU_IOAS_UNMAP, iommu_ioas_unmap, { ioas_id: ioas, iova, length }, what);
    return iommu_ioas_unmap.fields.length.getBig(view);
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Each struct of iommufd begins with its own size. */
  #ioctl<F extends Fields>(
    request: number,
    layout: Struct<F>,
    values: { [K in keyof F]?: SettableOf<F[K]> },
    what: string,
  ): Pinned {
    const argument = new Pinned(layout.sizeof);
    layout.write(argument.view, 0, values);
    argument.view.setUint32(0, layout.sizeof, true);
    ioctl(this.#call, this.fd.fd, request, argument, () => what);
    return argument;
  }
}

function place(iova: OptionalIova, flags: number): { flags: number; iova: number | bigint } {
  return iova === undefined ? { flags, iova: 0 } : { flags: flags | IOMMU_IOAS_MAP_FIXED_IOVA, iova };
}

/** The device's own node, /dev/vfio/devices/vfioN, or null where the kernel has none (VFIO_DEVICE_CDEV is off). */
export function cdevPath(sysfsDevice: string): string | null {
  try {
    const [name] = readdirSync(`${sysfsDevice}/vfio-dev`);
    return name === undefined ? null : `/dev/vfio/devices/${name}`;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

function demandCdev(bdf: string): string {
  const path = cdevPath(`/sys/bus/pci/devices/${bdf}`);
  if (path === null) throw new Errno('ENODEV', `${bdf} has no vfio-dev: not bound to vfio-pci, or no VFIO_DEVICE_CDEV`);
  return path;
}

/** VFIO_DEVICE_BIND_IOMMUFD: binds the device to `iommufd`, and returns its id there. */
export function bindIommufd(device: VfioDevice, iommufd: Iommufd): number {
  const argument = new Pinned(vfio_device_bind_iommufd.sizeof);
  vfio_device_bind_iommufd.write(argument.view, 0, { argsz: BIND_ARGSZ, iommufd: iommufd.fd.fd });
  device.ioctl(VFIO_DEVICE_BIND_IOMMUFD, argument, 'VFIO_DEVICE_BIND_IOMMUFD');
  return vfio_device_bind_iommufd.fields.out_devid.get(argument.view);
}

/**
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT: routes the device's DMA through that address space; returns the id of its page table.
 */
export function attachIoas(device: VfioDevice, ioas: number): number {
  const argument = new Pinned(vfio_device_attach_iommufd_pt.sizeof);
  vfio_device_attach_iommufd_pt.write(argument.view, 0, { argsz: ATTACH_ARGSZ, pt_id: ioas });
  device.ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument, `VFIO_DEVICE_ATTACH_IOMMUFD_PT(${ioas})`);
  return vfio_device_attach_iommufd_pt.fields.pt_id.get(argument.view);
}

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: the device's DMA goes nowhere from now on. */
export function detachIoas(device: VfioDevice): void {
  const argument = new Pinned(vfio_device_detach_iommufd_pt.sizeof);
  vfio_device_detach_iommufd_pt.write(argument.view, 0, { argsz: DETACH_ARGSZ });
  device.ioctl(VFIO_DEVICE_DETACH_IOMMUFD_PT, argument, 'VFIO_DEVICE_DETACH_IOMMUFD_PT');
}

/** Opens a device by its own node and binds it to `iommufd`, which must outlive it. It is not attached yet. */
export function openCdev(bdf: string, iommufd: Iommufd, after: () => void = () => {}): VfioDevice {
  const device = new VfioDevice(openDeviceNode(demandCdev(bdf)), bdf, { after });
  try {
    bindIommufd(device, iommufd);
    return device;
  } catch (error) {
    device.close();
    throw error;
  }
}

/** Opens a device by its own node, in a new address space of a new iommufd. Closing the device closes both. */
export function openThroughCdev(bdf: string): { device: VfioDevice; iommufd: Iommufd; ioas: number } {
  demandCdev(bdf);
  const iommufd = Iommufd.open();
  try {
    const device = openCdev(bdf, iommufd, () => iommufd.close());
    try {
      const ioas = iommufd.allocIoas();
      attachIoas(device, ioas);
      return { device, iommufd, ioas };
    } catch (error) {
      device.close();
      throw error;
    }
  } catch (error) {
    iommufd.close();
    throw error;
  }
}
