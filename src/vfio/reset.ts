/** Resets that a user asks for: of one function, or of everything that shares its slot or bus. */
import { Errno } from '../abi/errno.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Task } from '../task/op.ts';
import type { DeviceSet } from './device-set.ts';
import { type MemoryOwner, restoreMemory, revokeMemory } from './lending.ts';
import { PCI_D0 } from './pm.ts';

/** A device that can be reset, alone or with others. */
export interface ResettableDevice extends MemoryOwner {
  readonly isOpen: boolean;
  readonly deviceSet: DeviceSet<ResettableDevice>;
  /** A PF's VFs that vfio-pci drives too. */
  readonly virtfns: readonly ResettableDevice[];
  /** Null where the device does not migrate; a reset brings it back to RUNNING. */
  readonly migration: { reset(): Task } | null;
}

/** Resets a device: its memory, and that of what is reset along with it, is taken away from everybody meanwhile. */
export function withMemoryRevoked(vdev: ResettableDevice, action: () => Task): Task {
  return withOwnMemoryRevoked(vdev, () => withVirtfnsRevoked(vdev, action));
}

/**
 * A reset of a PF switches its VFs off until their enable bit is restored: what they lend is taken away meanwhile. A
 * VF's memory_lock comes inside its PF's.
 */
export function withVirtfnsRevoked(vdev: ResettableDevice, action: () => Task): Task {
  const virtfns = vdev.profile.resetTakesVirtfns ? vdev.virtfns : [];
  return virtfns.reduce((inner, virtfn) => () => withOwnMemoryRevoked(virtfn, inner), action)();
}

/**
 * Takes the device's memory away from everybody, lets `action` happen, and gives it back where it may be used again.
 */
function* withOwnMemoryRevoked(vdev: ResettableDevice, action: () => Task): Task {
  yield* vdev.memoryLock.write();
  try {
    yield* revokeMemory(vdev);
    try {
      yield* action();
    } finally {
      // A reset that failed leaves the memory as it was: who may use it gets it back all the same.
      if (vdev.isOpen) yield* restoreMemory(vdev);
    }
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/** VFIO_DEVICE_RESET. EINVAL where the function cannot be reset by itself. */
export function* resetDevice(vdev: ResettableDevice): Task {
  const pdev = vdev.pdev;
  if (pdev.canReset().length === 0) throw new Errno('EINVAL', `${pdev.name} has no function-level reset`);
  // What the device has begun ends before the reset does, and not after the user heard of it.
  yield* pdev.quiesce();
  try {
    yield* resetQuiesced(vdev);
  } finally {
    yield* pdev.resume();
  }
  if (vdev.migration !== null) yield* vdev.migration.reset();
}

function* resetQuiesced(vdev: ResettableDevice): Task {
  yield* withMemoryRevoked(vdev, () => resetInD0(vdev.pdev));
}

/**
 * A device in D3hot would come out of the reset with its state lost or not, as No_Soft_Reset has it; and an FLR would
 * bring D3hot back with the registers, where D0 is.
 */
function* resetInD0(pdev: PciFunction): Task {
  yield* pdev.setPowerState(PCI_D0);
  yield* pdev.resetFunction();
}

/** FLR through config space, of a function whose DEVCAP or AF capability says that it has one. */
export function* functionLevelReset(vdev: ResettableDevice): Task {
  yield* withMemoryRevoked(vdev, () => resetInD0(vdev.pdev));
  if (vdev.migration !== null) yield* vdev.migration.reset();
}

/** struct vfio_pci_dependent_device. */
export interface DependentDevice {
  groupId: number;
  segment: number;
  bus: number;
  devfn: number;
}

/**
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: who is reset along with the device. ENODEV where slot and bus cannot be reset.
 */
export function hotResetInfo(vdev: ResettableDevice): DependentDevice[] {
  return vdev.pdev.hotResetScope().map((pdev) => ({
    groupId: pdev.iommuGroup,
    segment: pdev.address.segment,
    bus: pdev.address.bus,
    devfn: pdev.address.devfn,
  }));
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET. `owned` are the groups whose ownership the caller proved by descriptors. EINVAL where
 * there are none, or more than devices that it hits, or it would hit a device outside of them or of the set; EBUSY
 * where a device of the set is in use by a holder of its memory_lock: the lock of a second device is only ever tried,
 * so that two resets cannot wait for each other.
 */
export function* hotReset(vdev: ResettableDevice, owned: readonly number[]): Task {
  const set = vdev.deviceSet;
  yield* set.lock.lock();
  const locked: ResettableDevice[] = [];
  let isReset = false;
  try {
    const hit = hotResetInfo(vdev);
    if (owned.length === 0 || owned.length > hit.length) {
      throw new Errno('EINVAL', `${owned.length} groups for a reset that hits ${hit.length} devices`);
    }
    for (const dependent of hit) {
      if (!owned.includes(dependent.groupId)) {
        throw new Errno('EINVAL', `the reset would hit group ${dependent.groupId}, which the caller does not own`);
      }
    }
    const members = new Set(set.devices.map(({ pdev }) => pdev));
    if (vdev.pdev.hotResetScope().some((pdev) => !members.has(pdev))) {
      throw new Errno('EINVAL', `the reset would hit virtual functions, which are not in the set of ${vdev.pdev.name}`);
    }
    for (const device of set.devices) {
      if (!(yield* device.memoryLock.tryWrite())) {
        throw new Errno('EBUSY', `the memory of ${device.pdev.name} is in use; try again`);
      }
      locked.push(device);
      yield* revokeMemory(device);
    }
    for (const device of set.devices) yield* device.pdev.setPowerState(PCI_D0);
    yield* vdev.pdev.resetScope();
    isReset = true;
  } finally {
    // Only those whose lock was taken: the others' state is not ours to read.
    for (const device of locked.reverse()) {
      if (device.isOpen) yield* restoreMemory(device);
      yield* device.memoryLock.releaseWrite();
      if (isReset && device.migration !== null) yield* device.migration.reset();
    }
    yield* set.lock.unlock();
  }
}
