/** Steps on a device, on a real kernel. */
import { Errno } from '../abi/errno.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX } from '../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../abi/vfio-feature.ts';
import { OwnedFd } from '../linux/fd.ts';
import { readPciDevice } from '../linux/sysfs.ts';
import { openThroughGroup, type VfioGroup } from '../linux/vfio/container.ts';
import { VfioDevice } from '../linux/vfio/device.ts';
import { deviceFeatureRaw } from '../linux/vfio/feature.ts';
import { hotReset, hotResetInfo } from '../linux/vfio/hot-reset.ts';
import { type Iommufd, openCdev } from '../linux/vfio/iommufd.ts';
import { done, type Task } from '../task/op.ts';
import { configStep } from './config-steps.ts';
import { type FeatureStep, featureArgument } from './feature-argument.ts';
import type { LinuxWorld } from './linux.ts';
import type { Step, StepOf } from './step.ts';

/**
 * A device, as often as it was opened. The first open has the group and its container, or is bound to an iommufd; in
 * that case it is the only one.
 */
export class OpenDevice {
  /** Null for a device of an iommufd. */
  readonly group: VfioGroup | null;
  private readonly first: VfioDevice;
  private readonly others: VfioDevice[] = [];

  private constructor(first: VfioDevice, group: VfioGroup | null) {
    this.first = first;
    this.group = group;
  }

  static throughGroup(address: string, vfToken: string | undefined): OpenDevice {
    const groupId = readPciDevice(address).iommuGroup;
    if (groupId === null) throw new Errno('ENODEV', `${address} is in no IOMMU group`);
    const { device, group } = openThroughGroup(address, groupId, vfToken);
    return new OpenDevice(device, group);
  }

  static throughCdev(address: string, iommufd: Iommufd): OpenDevice {
    return new OpenDevice(openCdev(address, iommufd), null);
  }

  get device(): VfioDevice {
    return this.others.at(-1) ?? this.first;
  }

  open(address: string, vfToken: string | undefined): void {
    if (this.group === null) throw new Errno('EINVAL', `${address} belongs to an iommufd already`);
    this.others.push(new VfioDevice(this.group.getDevice(address, vfToken), address));
  }

  /** Closes the last open; false when that was the first. */
  close(): boolean {
    const other = this.others.pop();
    (other ?? this.first).close();
    return other !== undefined;
  }

  closeAll(): void {
    while (this.close()) {}
  }
}

export function* linuxDeviceStep(world: LinuxWorld, step: Step): Task<unknown> {
  const { device: name } = step as { device: string };
  if (step.op === 'open') return open(world, step);
  const opened = world.devices.get(name);
  if (opened === undefined) throw new Errno('EBADF', `${name} is not open`);
  const { device } = opened;
  switch (step.op) {
    case 'close':
      if (opened.close()) return null;
      world.devices.delete(name);
      world.attached.delete(name);
      return null;
    case 'info':
      return device.info();
    case 'region-info': {
      const { flags, sizeBytes } = device.regionInfo(step.region);
      return { flags, sizeBytes };
    }
    case 'irq-info':
      return device.irqInfo(step.index);
    case 'reset':
      return device.reset();
    case 'hot-reset':
      return hotReset(
        device,
        [...world.devices.values()].flatMap(({ group }) => (group === null ? [] : [group.fd.fd])),
      );
    case 'hot-reset-info':
      return hotResetInfo(device).devices.length;
    case 'region-read': {
      const into = Buffer.alloc(step.length);
      const length = device.readRegion(step.region, Number(step.offset), into);
      return into.toString('hex', 0, length);
    }
    case 'region-write':
      return device.writeRegion(step.region, Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'mmap':
      world.maps.set(step.as, device.mapRegion(step.region, Number(step.offset), Number(step.length)));
      return null;
    case 'set-irqs':
      return setIrqs(world, device, step);
    case 'feature':
    case 'export':
    case 'low-power-entry':
    case 'low-power-entry-with-wakeup':
    case 'low-power-exit':
      return featureStep(world, device, step);
    default:
      return yield* configStep(configOf(device), step);
  }
}

function configOf(device: VfioDevice) {
  return {
    name: device.name,
    read: (offset: number, into: Uint8Array) => done(device.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, into)),
    write: (offset: number, from: Uint8Array) => done(device.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, from)),
  };
}

function open(world: LinuxWorld, step: StepOf<'open'>): null {
  const address = world.address(step.device);
  const token = step.vfToken === undefined ? undefined : uuid(step.vfToken);
  const opened = world.devices.get(step.device);
  if (opened !== undefined) opened.open(address, token);
  else if (world.byCdev) world.devices.set(step.device, OpenDevice.throughCdev(address, world.iommu));
  else world.devices.set(step.device, OpenDevice.throughGroup(address, token));
  return null;
}

function uuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function setIrqs(world: LinuxWorld, device: VfioDevice, step: StepOf<'set-irqs'>): null {
  let data: Uint8Array = Uint8Array.from(step.bools ?? []);
  if (step.events !== undefined || (step.flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0) {
    const fds = (step.events ?? []).map((event) => (event === null ? -1 : world.event(event).fd));
    const bytes = Buffer.alloc(4 * fds.length);
    for (const [i, fd] of fds.entries()) bytes.writeInt32LE(fd, 4 * i);
    data = bytes;
  }
  device.setIrqs(step.flags, step.index, step.start, step.count, data);
  return null;
}

function featureStep(world: LinuxWorld, device: VfioDevice, step: FeatureStep): unknown {
  const wakeup = step.op === 'low-power-entry-with-wakeup' ? world.event(step.as).fd : 0;
  const argument = featureArgument(step, wakeup);
  const flags = argument.readUInt32LE(4);
  const result = deviceFeatureRaw(device, flags, argument.readUInt32LE(0), argument.subarray(8));
  const isExport =
    (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
  if (!isExport) return result;
  const buffer = new OwnedFd(result, 'dma-buf');
  const as = step.op === 'export' || step.op === 'feature' ? step.as : undefined;
  if (as === undefined) buffer.close();
  else world.fds.set(as, buffer);
  return null;
}
