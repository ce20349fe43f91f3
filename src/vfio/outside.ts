/**
 * What root does to a device from outside, while a user has it: the files that the PCI core has in sysfs. vfio-pci of
 * Linux 7.3 hears of none of them, since its `err_handler` has neither reset_prepare nor reset_done.
 */
import { Errno } from '../abi/errno.ts';
import type { PciFunction } from '../pci/function.ts';
import type { PciPowerState } from '../pci/power-state.ts';
import { hotResetScope, type ResetMethod, resetBus, resetMethods } from '../pci/reset.ts';
import type { Task } from '../task/op.ts';
import { restoreMemory, revokeMemory } from './lending.ts';
import { PCI_D0, resume, type SleepingDevice } from './pm.ts';
import {
  functionLevelReset,
  outsideOfSet,
  type ResettableDevice,
  resetInD0,
  resetSet,
  withMemoryRevoked,
} from './reset.ts';

/** A device that root reaches past its driver. */
interface OutsideDevice extends SleepingDevice, ResettableDevice {
  readonly virtfns: readonly (SleepingDevice & ResettableDevice)[];
  readonly interrupts: { reportError(): void };
  powerWritten: PowerWrittenOutside | null;
  knownPowerState(): PciPowerState;
}

/**
 * A power state that was written past the driver: the PCI core of Linux goes on with the one that it knows, until the
 * driver sets another.
 */
export interface PowerWrittenOutside {
  /** The state that the PCI core knows. */
  readonly known: PciPowerState;
  /** The state that the function is in. */
  readonly real: PciPowerState;
  /** `PciFunction.powerSets` at the time of the write. */
  readonly powerSets: number;
}

/**
 * Linux looks for methods when it finds a function. Function 0 is alone below its port then, and can be reset with its
 * bus, so it has the file.
 */
function hadMethod({ isVirtfn, parent, address }: PciFunction): boolean {
  return !isVirtfn && parent !== null && (address.devfn & 7) === 0;
}

/**
 * `reset`: resets the function by its first method (reset_store), or by the one that was written to `reset_method`.
 * Wakes it first. ENOENT without a method, ENOTTY if it has none any more, EINVAL for one that it does not have.
 */
export function* sysfsReset(vdev: OutsideDevice, method?: ResetMethod): Task {
  const { pdev } = vdev;
  const methods = resetMethods(pdev);
  if (methods.length === 0 && !hadMethod(pdev)) {
    throw new Errno('ENOENT', `${pdev.name} has no reset method, so no such file`);
  }
  // Linux wakes the device to look at a method, too.
  yield* resume(vdev);
  if (method !== undefined && !methods.includes(method)) {
    throw new Errno('EINVAL', `${pdev.name} cannot be reset by ${method}, only by ${methods.join(', ') || 'nothing'}`);
  }
  if (methods.length === 0) throw new Errno('ENOTTY', `${pdev.name} is no longer alone below its port`);
  yield* vdev.profile.outsideRevokes ? functionLevelReset(vdev, 'outside') : resetInD0(pdev);
}

/**
 * `reset_subordinate` of the port above: a reset of its secondary bus (reset_subordinate_store). EBUSY as in
 * `hotReset`, and where virtual functions are below the port.
 */
export function* sysfsResetSubordinate(vdev: OutsideDevice): Task {
  if (vdev.profile.outsideRevokes) {
    const set = vdev.deviceSet;
    yield* set.lock.lock();
    try {
      const stranger = outsideOfSet(vdev);
      if (stranger !== null) throw new Errno('EBUSY', `${stranger.name} would be reset, and is not in the set`);
      yield* resetSet(vdev, 'outside');
    } finally {
      yield* set.lock.unlock();
    }
    return;
  }
  for (const pdev of hotResetScope(vdev.pdev)) yield* pdev.setPowerState(PCI_D0);
  yield* resetBus(vdev.pdev);
}

/**
 * `config`: writes the registers themselves, past the user's view of them. Only the device knows which registers stop
 * its memory, so that every write revokes. The memory is lent again if the device still decodes.
 */
export function* sysfsConfigWrite(vdev: OutsideDevice, offset: number, size: 1 | 2 | 4, value: number): Task {
  const { pdev } = vdev;
  if (!vdev.profile.outsideRevokes) {
    // Linux does not wake the device, and its wake restores the registers from before. A PF with VFs never sleeps.
    if (vdev.lowPower.engaged.value && pdev.virtfns.length === 0) return;
    const known = vdev.knownPowerState();
    yield* pdev.configWrite(offset, size, value);
    vdev.powerWritten = { known, real: pdev.powerState.value, powerSets: pdev.powerSets };
    return;
  }
  yield* vdev.memoryLock.write();
  try {
    yield* revokeMemory(vdev, 'outside');
    yield* pdev.configWrite(offset, size, value);
    if (vdev.isOpen) yield* restoreMemory(vdev);
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/**
 * An error of PCI Express that the kernel recovers from (pcie_do_recovery). The user hears of it by the ERR interrupt.
 * After a fatal one the kernel resets the link, which loses the registers of all functions below the port. vfio-pci
 * restores none: the memory answers again when the user has set its memory bit.
 */
export function* busError(vdev: OutsideDevice, fatal: boolean): Task {
  // Linux wakes all functions below the port.
  for (const below of [vdev, ...vdev.virtfns]) yield* resume(below);
  vdev.interrupts.reportError();
  if (!fatal) return;
  const { pdev, deviceSet } = vdev;
  function* resetLink(): Task {
    for (const below of hotResetScope(pdev)) yield* below.hardwareReset();
  }
  if (!vdev.profile.outsideRevokes) return yield* resetLink();
  yield* deviceSet.lock.lock();
  try {
    // Others only try further locks of a set, and this holds the set's.
    const whole = deviceSet.devices.reduce<() => Task>(
      (inner, device) => () => withMemoryRevoked(device, 'outside', inner),
      resetLink,
    );
    yield* whole();
  } finally {
    yield* deviceSet.lock.unlock();
  }
}
