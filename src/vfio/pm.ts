/** Power: the states that a user sets through config space, and runtime low power through the LOW_POWER features. */
import { Errno } from '../abi/errno.ts';
import {
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import type { PciPowerState } from '../pci/power-state.ts';
import type { RegisterWrite } from '../pci/register-write.ts';
import { Cell } from '../task/cell.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import { type MemoryOwner, restoreMemory, revokeMemory } from './lending.ts';
import type { Caller, EventSignal, UserMemory } from './user.ts';

export const PCI_D0 = 0;
export const PCI_D3HOT = 3;

/** Runtime low power of one device; changed under its memory_lock. */
export class LowPower {
  /** The user allowed the device to sleep (pm_runtime_engaged). Accesses read it without the lock. */
  readonly engaged = new Cell('vfio_pci_core_device.pm_runtime_engaged', false);
  wakeEvent: EventSignal | null = null;
}

/** A device that its user may put to sleep. */
export interface SleepingDevice extends MemoryOwner {
  readonly lowPower: LowPower;
  /** Whether the memory answers in a power state. */
  decodesIn(state: PciPowerState): boolean;
  enterLowPower(wakeEvent: EventSignal | null): Task;
}

/** A write of some bits of a register. */
interface MaskedWrite extends RegisterWrite {
  /** The bits that the write changes. */
  readonly mask: number;
}

/** A write of PMCSR: the power state that it asks for, and its effect on the other bits of the register. */
export interface PowerWrite {
  /** The state that the write asks for. */
  readonly state: PciPowerState;
  /** The bits in `mask` change to those of `value`. */
  readonly otherBits: MaskedWrite;
}

/**
 * A PMCSR write: revokes before the memory stops answering, restores after it answers again. The other bits share the
 * register, so they are written under memory_lock too: else they could bring an old power state back.
 */
export function* setPowerState(vdev: SleepingDevice, { state, otherBits }: PowerWrite): Task {
  yield* vdev.memoryLock.write();
  try {
    yield* vdev.pdev.configModify(otherBits.offset, otherBits.size, otherBits.mask, otherBits.value);
    if (!vdev.decodesIn(state)) yield* revokeMemory(vdev, 'power state');
    // A PF stays in D0 while its VFs are enabled; its user gets no error.
    if (vdev.pdev.virtfns.length === 0 || state === PCI_D0) yield* vdev.pdev.setPowerState(state);
    yield* restoreMemory(vdev);
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/**
 * Revokes, and lets the device sleep. The device first goes to D0 from any state, so that it wakes to D0. EINVAL when
 * it may already sleep; then `wakeEvent` is released.
 */
export function* lowPowerEntry(vdev: SleepingDevice, wakeEvent: EventSignal | null): Task {
  yield* vdev.memoryLock.write();
  try {
    const { engaged } = vdev.lowPower;
    yield* revokeMemory(vdev, 'low power');
    if (engaged.value) throw new Errno('EINVAL', `${vdev.pdev.name} is in low power already`);
    yield* vdev.pdev.setPowerState(PCI_D0);
    yield* vdev.lowPower.engaged.store(true);
    vdev.lowPower.wakeEvent = wakeEvent;
  } catch (error) {
    wakeEvent?.release?.();
    throw error;
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: SET, no payload. EINVAL when already there. */
export function* featureLowPowerEntry(
  vdev: SleepingDevice,
  flags: number,
  _payload: UserMemory,
  argsz: number,
): Task<number> {
  if (!checkFeature(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, flags, argsz, VFIO_DEVICE_FEATURE_SET, 0)) return 0;
  yield* vdev.enterLowPower(null);
  return 0;
}

/** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: SET, {s32 wakeup_eventfd, u32 reserved}. */
export function* featureLowPowerEntryWithWakeup(
  vdev: SleepingDevice,
  flags: number,
  payload: UserMemory,
  argsz: number,
  caller: Caller,
): Task<number> {
  const feature = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
  if (!checkFeature(feature, flags, argsz, VFIO_DEVICE_FEATURE_SET, 8)) return 0;
  const bytes = payload.read(0, 8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const fd = view.getInt32(0, true);
  if (fd < 0 || view.getUint32(4, true) !== 0) {
    throw new Errno('EINVAL', `wakeup_eventfd ${fd}, reserved ${view.getUint32(4, true)}`);
  }
  yield* vdev.enterLowPower(caller.eventSignal(fd));
  return 0;
}

/** VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: SET, no payload; does nothing when the device is awake. */
export function* featureLowPowerExit(
  vdev: SleepingDevice,
  flags: number,
  _payload: UserMemory,
  argsz: number,
): Task<number> {
  if (!checkFeature(VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, flags, argsz, VFIO_DEVICE_FEATURE_SET, 0)) return 0;
  yield* lowPowerExit(vdev);
  return 0;
}

export function* lowPowerExit(vdev: SleepingDevice): Task {
  yield* vdev.memoryLock.write();
  try {
    yield* leaveLowPower(vdev);
    yield* restoreMemory(vdev);
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/**
 * vfio_device_pm_runtime_get: every ioctl on the device wakes it, as every access to a region does. A PF whose VFs are
 * enabled never sleeps, so nothing wakes it.
 */
export function* resume(vdev: SleepingDevice): Task {
  if (vdev.pdev.virtfns.length > 0) return;
  if (yield* vdev.lowPower.engaged.load()) yield* wake(vdev);
}

/**
 * Wakes the sleeping device, for a user's access or ioctl, or a PME. With a wakeup eventfd this ends low power and
 * signals the eventfd. Without one the device sleeps again afterwards, and the user gets no signal.
 */
function* wake(vdev: SleepingDevice): Task {
  yield* vdev.memoryLock.write();
  try {
    // The device wakes to D0, even if another state was written while it slept.
    yield* vdev.pdev.setPowerState(PCI_D0);
    const event = vdev.lowPower.wakeEvent;
    if (event === null) return;
    event.signal();
    yield* leaveLowPower(vdev);
    if (vdev.profile.wakeRestores) yield* restoreMemory(vdev);
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/** Ends low power. memory_lock is held for write. */
export function* leaveLowPower(vdev: SleepingDevice): Task {
  vdev.memoryLock.assertHeldWrite();
  if (vdev.lowPower.engaged.value) yield* vdev.lowPower.engaged.store(false);
  vdev.lowPower.wakeEvent?.release?.();
  vdev.lowPower.wakeEvent = null;
}
