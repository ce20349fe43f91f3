/** Steps on a device, on the engine. */

import { Errno } from '../abi/errno.ts';
import {
  PCI_AF_CTRL,
  PCI_AF_CTRL_FLR,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_PM,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_PM_CTRL,
} from '../abi/pci_regs.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import type { Task } from '../task/op.ts';
import type { VfioPciCoreDevice } from '../vfio/core.ts';
import { deviceInfo, regionInfo } from '../vfio/regions.ts';
import { hotResetInfo } from '../vfio/reset.ts';
import { BufferMemory } from '../vfio/user.ts';
import { CountingEvent, type EngineWorld } from './engine.ts';
import type { Step, StepOf } from './step.ts';
import { toU64 } from './step.ts';

const O_RDWR = 2;

export function* deviceStep(world: EngineWorld, step: Step): Task<unknown> {
  const device = world.device((step as { device: string }).device);
  switch (step.op) {
    case 'open':
      return yield* device.open(step.vfToken === undefined ? null : Buffer.from(step.vfToken, 'hex'));
    case 'close':
      if (!device.isOpen) throw new Errno('EBADF', `${step.device} is not open`);
      return yield* device.close();
    case 'info':
      return deviceInfo(device);
    case 'region-info': {
      const { flags, sizeBytes } = regionInfo(device, step.region);
      return { flags, sizeBytes };
    }
    case 'irq-info': {
      const { flags, count } = device.interrupts.irqInfo(step.index);
      return { flags, count };
    }
    case 'reset':
      return yield* device.reset();
    case 'hot-reset':
      return yield* device.hotReset(new Set(hotResetInfo(device).map((dependent) => dependent.groupId)));
    case 'hot-reset-info':
      return hotResetInfo(device).length;
    case 'region-read': {
      const into = new Uint8Array(step.length);
      const length = yield* device.read(step.region, Number(step.offset), into);
      return Buffer.from(into.subarray(0, length)).toString('hex');
    }
    case 'region-write':
      return yield* device.write(step.region, Number(step.offset), Buffer.from(step.bytes, 'hex'));
    case 'mmap':
      world.maps.set(step.as, device.mmap(step.region, Number(step.offset), Number(step.length)));
      return null;
    case 'set-irqs':
      return yield* setIrqs(world, device, step);
    case 'feature':
    case 'export':
    case 'low-power-entry':
    case 'low-power-entry-with-wakeup':
    case 'low-power-exit':
      return yield* featureStep(world, device, step);
    default:
      return yield* configStep(device, step);
  }
}

function* configStep(device: VfioPciCoreDevice, step: Step): Task<unknown> {
  switch (step.op) {
    case 'config-read':
      return yield* configRead(device, step.offset, step.size);
    case 'config-write':
      return yield* configWrite(device, step.offset, step.size, step.value);
    case 'cap-read':
      return yield* configRead(device, capability(device, step.cap, step.ext) + step.offset, step.size);
    case 'cap-write':
      return yield* configWrite(device, capability(device, step.cap, step.ext) + step.offset, step.size, step.value);
    case 'memory': {
      const command = yield* configRead(device, PCI_COMMAND, 2);
      const next = step.on ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY;
      return yield* configWrite(device, PCI_COMMAND, 2, next);
    }
    case 'power':
      return yield* configWrite(device, capability(device, PCI_CAP_ID_PM) + PCI_PM_CTRL, 2, step.state);
    case 'flr': {
      const at = capability(device, PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL;
      return yield* configWrite(device, at, 2, (yield* configRead(device, at, 2)) | PCI_EXP_DEVCTL_BCR_FLR);
    }
    case 'af-flr':
      return yield* configWrite(device, capability(device, PCI_CAP_ID_AF) + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR);
    default:
      throw new Error(`no step ${step.op} on a device`);
  }
}

function capability(device: VfioPciCoreDevice, id: number, ext = false): number {
  const at = ext ? device.pdev.config.findExt(id) : device.pdev.config.find(id);
  if (at === 0) throw new Errno('ENOENT', `${device.pdev.name} has no capability 0x${id.toString(16)}`);
  return at;
}

function* configRead(device: VfioPciCoreDevice, offset: number, size: number): Task<number> {
  const into = Buffer.alloc(size);
  yield* device.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, into);
  return into.readUIntLE(0, size);
}

function* configWrite(device: VfioPciCoreDevice, offset: number, size: number, value: number): Task<void> {
  const from = Buffer.alloc(size);
  from.writeUIntLE(value % 2 ** (8 * size), 0, size);
  yield* device.write(VFIO_PCI_CONFIG_REGION_INDEX, offset, from);
}

function* setIrqs(world: EngineWorld, device: VfioPciCoreDevice, step: StepOf<'set-irqs'>): Task<unknown> {
  let data: Uint8Array = Uint8Array.from(step.bools ?? []);
  if (step.events !== undefined) {
    const fds = Buffer.alloc(4 * step.events.length);
    for (const [i, event] of step.events.entries()) fds.writeInt32LE(eventNumber(world, event), 4 * i);
    data = fds;
  }
  return yield* device.setIrqs(step.flags, step.index, step.start, step.count, data, world);
}

function eventNumber(world: EngineWorld, name: string | null): number {
  if (name === null) return -1;
  if (!world.events.has(name)) world.events.set(name, new CountingEvent());
  return [...world.events.keys()].indexOf(name);
}

type FeatureStep = StepOf<'feature' | 'export' | 'low-power-entry' | 'low-power-entry-with-wakeup' | 'low-power-exit'>;

function* featureStep(world: EngineWorld, device: VfioPciCoreDevice, step: FeatureStep): Task<unknown> {
  const wakeup = step.op === 'low-power-entry-with-wakeup' ? eventNumber(world, step.as) : 0;
  const argument = featureArgument(step, wakeup);
  const value = yield* device.feature(new BufferMemory(argument), world);
  const isExport = step.op === 'export' || (step.op === 'feature' && step.as !== undefined);
  if (!isExport) return value;
  if (step.as !== undefined) world.fds.set(step.as, value);
  return null;
}

/** The bytes of VFIO_DEVICE_FEATURE for a step; what lies behind them cannot be read. Shared by all backends. */
export function featureArgument(step: FeatureStep, wakeupFd: number): Buffer {
  const set = VFIO_DEVICE_FEATURE_SET;
  switch (step.op) {
    case 'feature':
      return envelope(step.argsz, step.flags, Buffer.from(step.payload, 'hex'));
    case 'low-power-entry':
      return envelope(8, set | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, Buffer.alloc(0));
    case 'low-power-exit':
      return envelope(8, set | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, Buffer.alloc(0));
    case 'low-power-entry-with-wakeup': {
      const payload = Buffer.alloc(8);
      payload.writeInt32LE(wakeupFd, 0);
      return envelope(16, set | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, payload);
    }
    case 'export': {
      const payload = Buffer.alloc(16 + 16 * step.ranges.length);
      payload.writeUInt32LE(step.region, 0);
      payload.writeUInt32LE(step.openFlags ?? O_RDWR, 4);
      payload.writeUInt32LE(step.flags ?? 0, 8);
      payload.writeUInt32LE(step.nrRanges ?? step.ranges.length, 12);
      for (const [i, [offset, length]] of step.ranges.entries()) {
        payload.writeBigUInt64LE(toU64(offset), 16 + 16 * i);
        payload.writeBigUInt64LE(toU64(length), 24 + 16 * i);
      }
      return envelope(8 + payload.length, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF, payload);
    }
  }
}

function envelope(argsz: number, flags: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(argsz, 0);
  header.writeUInt32LE(flags >>> 0, 4);
  return Buffer.concat([header, payload]);
}
