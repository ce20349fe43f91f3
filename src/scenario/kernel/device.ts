/** Steps on a device, on a real kernel. */
import { readFileSync } from 'node:fs';
import { Errno } from '../../abi/errno.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX } from '../../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../abi/vfio-feature.ts';
import { OwnedFd } from '../../linux/fd.ts';
import { pause } from '../../linux/pause.ts';
import { readPciDevice } from '../../linux/sysfs.ts';
import type { VfioDevice } from '../../linux/vfio/device.ts';
import { deviceFeatureRaw } from '../../linux/vfio/feature.ts';
import { hotReset, hotResetInfo } from '../../linux/vfio/hot-reset.ts';
import { openCdev } from '../../linux/vfio/iommufd.ts';
import { done, type Task } from '../../task/op.ts';
import { configStep } from '../config-steps.ts';
import { type FeatureStep, featureArgument } from '../feature-argument.ts';
import type { StartedDeviceStep, StepIn, StepOf } from '../step.ts';
import { OpenDevice, OpenGroup } from './files.ts';
import type { LinuxWorld } from './world.ts';

type DeviceStep = StepIn<'device'>;

const SUSPEND_MS = 500;
const POLL_MS = 2;

/** An open device, and the groups that prove ownership of the other devices of a hot reset. */
export interface DeviceAccess {
  device: VfioDevice;
  /** The groups of every open device. */
  groups: { id: number; fd: number }[];
}

export function* deviceStep(world: LinuxWorld, step: DeviceStep): Task<unknown> {
  const name = step.device;
  try {
    return yield* takeDeviceStep(world, step, name);
  } finally {
    // The access that woke the device is over. The step ends when the kernel has suspended the device again.
    if (world.asleep.has(name) && !waitForSuspend(world.address(name))) world.asleep.delete(name);
  }
}

function* takeDeviceStep(world: LinuxWorld, step: DeviceStep, name: string): Task<unknown> {
  if (step.op === 'open') return open(world, step);
  const opened = world.device(name);
  const { device } = opened;
  switch (step.op) {
    case 'close':
      closeDevice(world, name, opened);
      return null;
    case 'mmap':
      world.maps.set(step.as, device.mapRegion(step.region, Number(step.offset), Number(step.length)));
      return null;
    case 'set-irqs':
      return setIrqs(world, device, step);
    case 'feature':
    case 'export':
    case 'revoke-buffer':
    case 'set-tph':
      return featureStep(world, device, step);
    case 'low-power-entry': {
      const result = featureStep(world, device, step);
      world.asleep.add(name);
      return result;
    }
    case 'low-power-entry-with-wakeup': {
      const result = featureStep(world, device, step);
      waitForSuspend(world.address(name));
      return result;
    }
    case 'low-power-exit': {
      const result = featureStep(world, device, step);
      world.asleep.delete(name);
      return result;
    }
    default:
      return yield* namelessStep({ device, groups: openGroups(world) }, step);
  }
}

export function* namelessStep({ device, groups }: DeviceAccess, step: StartedDeviceStep): Task<unknown> {
  switch (step.op) {
    case 'close':
      device.fd.close();
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
      return hotReset(device, provedGroups(device, groups, step.groups));
    case 'hot-reset-info':
      return hotResetInfo(device).devices.length;
    case 'region-read': {
      const into = Buffer.alloc(step.length);
      const length = device.readRegion(step.region, Number(step.offset), into);
      return into.toString('hex', 0, length);
    }
    case 'region-write':
      return device.writeRegion(step.region, Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'low-power-entry':
    case 'low-power-exit':
      return rawFeature(device, featureArgument(step, 0));
    default:
      return yield* configStep(configOf(device), step);
  }
}

/** Takes a step of a device in a separate thread. */
export function startDeviceStep(world: LinuxWorld, step: StartedDeviceStep, as: string): 'ended' | 'blocked' {
  const { device: name } = step;
  const opened = world.device(name);
  const call = { step, address: world.address(name), deviceFd: opened.device.fd.fd, groups: openGroups(world) };
  if (step.op !== 'close') return world.started.start(as, call, () => {});
  // The thread closes the descriptor; group and container close after it.
  const release = opened.release();
  if (!opened.isOpen) forget(world, name);
  return world.started.start(as, call, release);
}

/**
 * Waits until the kernel suspends a device, some time after its user allowed it; until then nothing wakes it. Returns
 * whether it did.
 */
function waitForSuspend(address: string): boolean {
  const status = () => readFileSync(`/sys/bus/pci/devices/${address}/power/runtime_status`, 'utf8').trim();
  for (let ms = 0; ms < SUSPEND_MS && status() !== 'suspended'; ms += POLL_MS) pause(POLL_MS);
  return status() === 'suspended';
}

function closeDevice(world: LinuxWorld, name: string, opened: OpenDevice): void {
  opened.close();
  if (!opened.isOpen) forget(world, name);
}

function forget(world: LinuxWorld, name: string): void {
  world.devices.delete(name);
  world.attached.delete(name);
  world.asleep.delete(name);
}

function openGroups(world: LinuxWorld): DeviceAccess['groups'] {
  const groups = new Set([...world.devices.values()].flatMap(({ group }) => (group === null ? [] : [group.fd])));
  return [...groups].map(({ id, fd }) => ({ id, fd: fd.fd }));
}

function provedGroups(device: VfioDevice, open: DeviceAccess['groups'], count: number | undefined): number[] {
  if (count !== undefined) return open.slice(0, count).map(({ fd }) => fd);
  const hit = new Set(hotResetInfo(device).devices.map(({ groupId }) => groupId));
  return open.filter(({ id }) => hit.has(id)).map(({ fd }) => fd);
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
  // The kernel refuses a device that is open the other way.
  if (step.cdev === true) {
    const device = openCdev(address, world.iommu);
    world.devices.set(step.device, OpenDevice.throughCdev(device));
  } else if (opened !== undefined && opened.group !== null) opened.open(address, token);
  else openThroughGroup(world, step.device, address, token);
  return null;
}

function openThroughGroup(world: LinuxWorld, name: string, address: string, token: string | undefined): void {
  const group = groupOf(world, address);
  const opened = new OpenDevice(group);
  try {
    opened.open(address, token);
    world.devices.set(name, opened);
  } finally {
    group.closeUnused();
  }
}

function groupOf(world: LinuxWorld, address: string): OpenGroup {
  const groupId = readPciDevice(address).iommuGroup;
  if (groupId === null) throw new Errno('ENODEV', `${address} is in no IOMMU group`);
  for (const { group } of world.devices.values()) if (group?.fd.id === groupId) return group;
  return new OpenGroup(groupId);
}

function uuid(hex: string): string {
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function setIrqs(world: LinuxWorld, device: VfioDevice, step: StepOf<'set-irqs'>): null {
  let data: Uint8Array = Uint8Array.from(step.bools ?? []);
  if (step.events !== undefined || (step.flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0) {
    const fds = (step.events ?? []).map((event) =>
      typeof event === 'number' ? event : event === null ? -1 : world.event(event).fd,
    );
    const bytes = Buffer.alloc(4 * fds.length);
    for (const [i, fd] of fds.entries()) bytes.writeInt32LE(fd, 4 * i);
    data = bytes;
  }
  device.setIrqs(step.flags, step.index, step.start, step.count, data);
  return null;
}

function featureStep(world: LinuxWorld, device: VfioDevice, step: FeatureStep): unknown {
  const wakeup = step.op === 'low-power-entry-with-wakeup' ? world.event(step.as).fd : 0;
  const fd = 'fd' in step ? world.fdNumber(step.fd) : wakeup;
  const result = rawFeature(device, featureArgument(step, fd, world.proposed));
  const isExport =
    step.op === 'export' ||
    (step.op === 'feature' &&
      (step.flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF &&
      (step.flags & VFIO_DEVICE_FEATURE_PROBE) === 0);
  if (!isExport) return result;
  const buffer = new OwnedFd(result, 'dma-buf');
  const as = step.op === 'export' || step.op === 'feature' ? step.as : undefined;
  if (as === undefined) buffer.close();
  else world.fds.set(as, buffer);
  return null;
}

function rawFeature(device: VfioDevice, argument: Buffer): number {
  const header = Buffer.alloc(8);
  argument.copy(header, 0, 0, 8);
  return deviceFeatureRaw(
    device,
    header.readUInt32LE(4),
    header.readUInt32LE(0),
    argument.subarray(8),
    Math.min(8, argument.length),
  );
}
