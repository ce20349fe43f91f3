/** Steps on a device, on the engine. */

import { Errno } from '../../abi/errno.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_REGION_INFO_FLAG_CAPS } from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { resume } from '../../vfio/pm.ts';
import { deviceInfo, regionInfo } from '../../vfio/regions.ts';
import { hotResetInfo } from '../../vfio/reset.ts';
import { BufferMemory } from '../../vfio/user.ts';
import { configStep } from '../config-steps.ts';
import { type FeatureStep, featureArgument } from '../feature-argument.ts';
import type { StepIn, StepOf } from '../step.ts';
import type { EngineWorld } from './world.ts';

type DeviceStep = StepIn<'device'>;

const CONFIG = VFIO_PCI_CONFIG_REGION_INDEX;
/** The steps that are an ioctl. The others open, close, read, write or map. */
const IOCTLS: ReadonlySet<DeviceStep['op']> = new Set<DeviceStep['op']>([
  'info',
  'region-info',
  'irq-info',
  'reset',
  'hot-reset',
  'hot-reset-info',
  'set-irqs',
  'feature',
  'export',
  'revoke-buffer',
  'set-tph',
  'low-power-entry',
  'low-power-entry-with-wakeup',
  'low-power-exit',
]);

export function* deviceStep(world: EngineWorld, step: DeviceStep): Task<unknown> {
  const { deviceFiles } = world;
  const device = world.device(step.device);
  if (step.op === 'open') {
    world.drivers.checkBound(step.device);
    deviceFiles.checkOpen(device, step.cdev === true);
    yield* device.open(step.vfToken === undefined ? null : Buffer.from(step.vfToken, 'hex'));
    deviceFiles.add(device, step.cdev === true);
    return null;
  }
  if (!deviceFiles.isOpen(device)) throw new Errno('EBADF', `${device.pdev.name} is not open`);
  if (step.op !== 'close') return yield* deviceFiles.during(device, fileStep(world, device, step));
  yield* deviceFiles.close(device);
  return null;
}

/** A system call on the descriptor of a device. */
function* fileStep(
  world: EngineWorld,
  device: VfioPciCoreDevice,
  step: Exclude<DeviceStep, StepOf<'open' | 'close'>>,
): Task<unknown> {
  if (IOCTLS.has(step.op)) yield* resume(device);
  switch (step.op) {
    case 'info':
      return deviceInfo(device);
    case 'region-info': {
      const { flags, sizeBytes, msixMappable } = regionInfo(device, step.region);
      return { flags: flags | (msixMappable ? VFIO_REGION_INFO_FLAG_CAPS : 0), sizeBytes };
    }
    case 'irq-info': {
      const { flags, count } = device.interrupts.irqInfo(step.index);
      return { flags, count };
    }
    case 'reset':
      return yield* device.reset();
    case 'hot-reset':
      return yield* device.hotReset(provedGroups(world, device, step.groups));
    case 'hot-reset-info':
      return hotResetInfo(device).length;
    case 'region-read': {
      const into = new Uint8Array(step.length);
      const length = yield* device.read(step.region, Number(step.offset), into);
      return Buffer.from(into.subarray(0, length)).toString('hex');
    }
    case 'region-write':
      return yield* device.write(step.region, Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'mmap': {
      const mapping = device.mmap(step.region, Number(step.offset), Number(step.length));
      world.deviceFiles.mmap(device, mapping);
      world.maps.set(step.as, mapping);
      return null;
    }
    case 'set-irqs':
      return yield* setIrqs(world, device, step);
    case 'feature':
    case 'export':
    case 'revoke-buffer':
    case 'set-tph':
    case 'low-power-entry':
    case 'low-power-entry-with-wakeup':
    case 'low-power-exit':
      return yield* featureStep(world, device, step);
    default:
      return yield* configStep(
        {
          name: device.pdev.name,
          read: (at, into) => device.read(CONFIG, at, into),
          write: (at, from) => device.write(CONFIG, at, from),
        },
        step,
      );
  }
}

/**
 * The groups that the caller of a hot reset proves to own. A device of an iommufd is reset without given groups: the
 * iommufd proves that the caller owns its devices.
 */
function provedGroups(world: EngineWorld, device: VfioPciCoreDevice, count: number | undefined): number[] {
  const hit = new Set(hotResetInfo(device).map(({ groupId }) => groupId));
  const own = (cdev: boolean) => world.deviceFiles.groups(cdev).filter((group) => hit.has(group));
  const given = count === undefined ? own(false) : world.deviceFiles.groups(false).slice(0, count);
  if (!world.deviceFiles.isOpenByCdev(device)) return given;
  if (given.length > 0) throw new Errno('EINVAL', `${device.pdev.name} belongs to an iommufd, and has no group`);
  return own(true);
}

function* setIrqs(world: EngineWorld, device: VfioPciCoreDevice, step: StepOf<'set-irqs'>): Task<unknown> {
  let data: Uint8Array = Uint8Array.from(step.bools ?? []);
  if (step.events !== undefined) {
    const fds = Buffer.alloc(4 * step.events.length);
    for (const [i, event] of step.events.entries()) fds.writeInt32LE(world.eventNumber(event), 4 * i);
    data = fds;
  }
  return yield* device.setIrqs(step.flags, step.index, step.start, step.count, data, world);
}

function* featureStep(world: EngineWorld, device: VfioPciCoreDevice, step: FeatureStep): Task<unknown> {
  const wakeup = step.op === 'low-power-entry-with-wakeup' ? world.eventNumber(step.as) : 0;
  const argument = featureArgument(step, 'fd' in step ? world.fd(step.fd) : wakeup, world.profile.proposed);
  const value = yield* device.feature(new BufferMemory(argument), world);
  const isExport = step.op === 'export' || (step.op === 'feature' && step.as !== undefined);
  if (!isExport) return value;
  if (step.as !== undefined) world.fds.set(step.as, value);
  return null;
}
