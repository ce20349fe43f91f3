import { openSync } from 'node:fs';
import { Errno } from '../../abi/errno.ts';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_FLAGS_VIABLE,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  vfio_group_status,
} from '../../abi/vfio.ts';
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
} from '../../abi/vfio-type1.ts';
import { OwnedFd } from '../fd.ts';
import { Pinned } from '../ffi.ts';
import { type IoctlCall, ioctl, kernelIoctl } from '../ioctl.ts';

const READ_WRITE = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/** open(2) for reading and writing as an OwnedFd; the path in the error is Node's. */
export function openDeviceNode(path: string): OwnedFd {
  try {
    return new OwnedFd(openSync(path, 'r+'), path);
  } catch (error) {
    throw asErrno(error, `open(${path})`);
  }
}

function asErrno(error: unknown, what: string): unknown {
  const number = (error as { errno?: number }).errno;
  return number === undefined ? error : Errno.fromCode(Math.abs(number), `${what}: ${(error as Error).message}`);
}

/** /dev/vfio/vfio with the type1v2 IOMMU: one I/O address space for the groups that are set into it. */
export class Type1Container {
  readonly fd: OwnedFd;
  readonly #call: IoctlCall;

  constructor(fd: OwnedFd, call: IoctlCall = kernelIoctl) {
    this.fd = fd;
    this.#call = call;
    const version = this.#ioctl(VFIO_GET_API_VERSION, null, 'VFIO_GET_API_VERSION');
    if (version !== VFIO_API_VERSION) throw new Errno('EPROTO', `VFIO API version ${version}, not ${VFIO_API_VERSION}`);
    if (this.#ioctl(VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU, 'VFIO_CHECK_EXTENSION') === 0) {
      throw new Errno('EOPNOTSUPP', 'this kernel has no VFIO_TYPE1v2_IOMMU: load vfio_iommu_type1');
    }
  }

  /** Chooses the IOMMU; once, after the first group was set. */
  setIommu(): void {
    this.#ioctl(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, 'VFIO_SET_IOMMU(VFIO_TYPE1v2_IOMMU)');
  }

  /** Lets devices reach `sizeBytes` of this process's memory at `address` as I/O virtual addresses from `iova`. */
  map(iova: number | bigint, address: number, sizeBytes: number, flags = READ_WRITE): void {
    const argument = new Pinned(vfio_iommu_type1_dma_map.sizeof);
    const { sizeof: argsz } = vfio_iommu_type1_dma_map;
    vfio_iommu_type1_dma_map.write(argument.view, 0, { argsz, flags, vaddr: address, iova, size: sizeBytes });
    this.#ioctl(VFIO_IOMMU_MAP_DMA, argument, `VFIO_IOMMU_MAP_DMA(iova 0x${iova.toString(16)}, ${sizeBytes} bytes)`);
  }

  /** Unmaps all mappings that lie wholly in the range; returns their bytes. */
  unmap(iova: number | bigint, sizeBytes: number | bigint, flags = 0): number {
    const argument = new Pinned(vfio_iommu_type1_dma_unmap.sizeof);
    const { sizeof: argsz } = vfio_iommu_type1_dma_unmap;
    vfio_iommu_type1_dma_unmap.write(argument.view, 0, { argsz, flags, iova, size: sizeBytes });
    this.#ioctl(
      VFIO_IOMMU_UNMAP_DMA,
      argument,
      `VFIO_IOMMU_UNMAP_DMA(iova 0x${iova.toString(16)}, ${sizeBytes} bytes)`,
    );
    return vfio_iommu_type1_dma_unmap.fields.size.get(argument.view);
  }

  unmapAll(): number {
    return this.unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
  }

  close(): void {
    this.fd.close();
  }

  #ioctl(request: number, argument: Pinned | number | null, what: string): number {
    return ioctl(this.#call, this.fd.fd, request, argument, () => what);
  }
}

/** /dev/vfio/N: devices that the IOMMU cannot tell apart. Open until its last device is closed. */
export class VfioGroup {
  readonly fd: OwnedFd;
  readonly id: number;
  readonly #call: IoctlCall;

  constructor(fd: OwnedFd, id: number, call: IoctlCall = kernelIoctl) {
    this.fd = fd;
    this.id = id;
    this.#call = call;
    const status = new Pinned(vfio_group_status.sizeof);
    vfio_group_status.fields.argsz.set(status.view, 0, vfio_group_status.sizeof);
    this.#ioctl(VFIO_GROUP_GET_STATUS, status, 'VFIO_GROUP_GET_STATUS');
    if ((vfio_group_status.fields.flags.get(status.view) & VFIO_GROUP_FLAGS_VIABLE) === 0) {
      throw new Errno('EPERM', `IOMMU group ${id} is not viable: bind all of its devices to vfio-pci or to no driver`);
    }
  }

  setContainer(container: Type1Container): void {
    const argument = new Pinned(4);
    argument.view.setInt32(0, container.fd.fd, true);
    this.#ioctl(VFIO_GROUP_SET_CONTAINER, argument, 'VFIO_GROUP_SET_CONTAINER');
  }

  /** Returns the device's descriptor. `vfToken` is the UUID text for a VF whose PF demands one. */
  getDevice(bdf: string, vfToken?: string): OwnedFd {
    const text = vfToken === undefined ? bdf : `${bdf} vf_token=${vfToken}`;
    const argument = new Pinned(Buffer.byteLength(text) + 1);
    argument.bytes.write(text);
    return new OwnedFd(this.#ioctl(VFIO_GROUP_GET_DEVICE_FD, argument, `VFIO_GROUP_GET_DEVICE_FD(${text})`), bdf);
  }

  close(): void {
    this.fd.close();
  }

  #ioctl(request: number, argument: Pinned | number | null, what: string): number {
    return ioctl(this.#call, this.fd.fd, request, argument, () => `${what} on group ${this.id}`);
  }
}

/** A group in a new container of its own; `close` closes both. */
export function openGroup(groupId: number): { group: VfioGroup; container: Type1Container; close: () => void } {
  const opened: { close(): void }[] = [];
  const close = () => {
    for (const thing of opened.splice(0).reverse()) thing.close();
  };
  const keep = <T extends { close(): void }>(thing: T): T => {
    opened.push(thing);
    return thing;
  };
  try {
    const container = new Type1Container(keep(openDeviceNode('/dev/vfio/vfio')));
    const group = new VfioGroup(keep(openDeviceNode(`/dev/vfio/${groupId}`)), groupId);
    group.setContainer(container);
    container.setIommu();
    return { group, container, close };
  } catch (error) {
    close();
    throw error;
  }
}
