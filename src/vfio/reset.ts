/** Resets at a user's request: of one function, or of all functions on its slot or bus. */
import { Errno } from '../abi/errno.ts';
import type { PciFunction } from '../pci/function.ts';
import { hotResetScope, resetBus, resetFunction, resetMethods } from '../pci/reset.ts';
import type { Task } from '../task/op.ts';
import type { RevokeCause } from './buffer-observer.ts';
import type { DeviceSet } from './device-set.ts';
import { type MemoryOwner, restoreMemory, revokeMemory } from './lending.ts';
import { PCI_D0 } from './pm.ts';

/** A device that can be reset, alone or with others. */
export interface ResettableDevice extends MemoryOwner {
  readonly isOpen: boolean;
  readonly deviceSet: DeviceSet<ResettableDevice>;
  /** For a PF: those of its VFs that vfio-pci drives too. */
  readonly virtfns: readonly ResettableDevice[];
  /** Null where the device does not migrate. A reset sets its state to RUNNING. */
  readonly migration: { reset(): Task } | null;
}

/** Resets a device. Its memory, and that of all devices reset with it, is revoked meanwhile. */
export function withMemoryRevoked(vdev: ResettableDevice, cause: RevokeCause, action: () => Task): Task {
  return withOwnMemoryRevoked(vdev, cause, () => withVirtfnsRevoked(vdev, cause, action));
}

/**
 * A reset of a PF switches its VFs off until their enable bit is restored, so their buffers are revoked meanwhile. A
 * VF's memory_lock comes inside its PF's.
 */
export function withVirtfnsRevoked(vdev: ResettableDevice, cause: RevokeCause, action: () => Task): Task {
  const virtfns = vdev.profile.resetTakesVirtfns ? vdev.virtfns : [];
  return virtfns.reduce((inner, virtfn) => () => withOwnMemoryRevoked(virtfn, cause, inner), action)();
}

/** Revokes the device's memory, runs `action`, and restores the memory if it may be used again. */
function* withOwnMemoryRevoked(vdev: ResettableDevice, cause: RevokeCause, action: () => Task): Task {
  yield* vdev.memoryLock.write();
  try {
    yield* revokeMemory(vdev, cause);
    try {
      yield* action();
    } finally {
      // A failed reset leaves the memory as it was, so it is restored too.
      if (vdev.isOpen) yield* restoreMemory(vdev);
    }
  } finally {
    yield* vdev.memoryLock.releaseWrite();
  }
}

/** VFIO_DEVICE_RESET. EINVAL where the function cannot be reset alone. */
export function* resetDevice(vdev: ResettableDevice): Task {
  const pdev = vdev.pdev;
  if (resetMethods(pdev).length === 0) throw new Errno('EINVAL', `${pdev.name} has no function-level reset`);
  // The device's DMA must end before the reset, so none arrives after the user learns of the reset.
  yield* pdev.quiesce();
  try {
    yield* resetQuiesced(vdev);
  } finally {
    yield* pdev.resume();
  }
  if (vdev.migration !== null) yield* vdev.migration.reset();
}

function* resetQuiesced(vdev: ResettableDevice): Task {
  yield* withMemoryRevoked(vdev, 'reset', () => resetInD0(vdev.pdev));
}

/**
 * Brings the device to D0 first. From D3hot, No_Soft_Reset would decide whether its state survives, and an FLR would
 * restore D3hot with the registers.
 */
export function* resetInD0(pdev: PciFunction): Task {
  yield* pdev.setPowerState(PCI_D0);
  yield* resetFunction(pdev);
}

/** A reset of the function alone, by whatever asks for it: FLR through config space, or sysfs. */
export function* functionLevelReset(vdev: ResettableDevice, cause: RevokeCause): Task {
  yield* withMemoryRevoked(vdev, cause, () => resetInD0(vdev.pdev));
  if (vdev.migration !== null) yield* vdev.migration.reset();
}

/** struct vfio_pci_dependent_device. */
export interface DependentDevice {
  /** The number of its IOMMU group. */
  groupId: number;
  /** The PCI segment. */
  segment: number;
  /** The bus number. */
  bus: number;
  /** Slot and function: slot << 3 | function. */
  devfn: number;
}

/**
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the devices that are reset with this one. ENODEV where slot and bus cannot be
 * reset.
 */
export function hotResetInfo(vdev: ResettableDevice): DependentDevice[] {
  return hotResetScope(vdev.pdev).map((pdev) => ({
    groupId: pdev.iommuGroup,
    segment: pdev.address.segment,
    bus: pdev.address.bus,
    devfn: pdev.address.devfn,
  }));
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET. `owned` are the groups whose ownership the caller has proved by descriptors. EINVAL for no
 * groups, for more groups than affected devices, or if the reset affects a device outside the groups or the set. EBUSY
 * where another task holds a device's memory_lock: a reset only tries the locks of further devices, so that two resets
 * cannot wait for each other.
 */
export function* hotReset(vdev: ResettableDevice, owned: readonly number[]): Task {
  const set = vdev.deviceSet;
  yield* set.lock.lock();
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
    if (outsideOfSet(vdev) !== null) {
      throw new Errno('EINVAL', `the reset would hit virtual functions, which are not in the set of ${vdev.pdev.name}`);
    }
    yield* resetSet(vdev, 'hot reset');
  } finally {
    yield* set.lock.unlock();
  }
}

/** A function that a reset of the bus hits, and whose memory the set cannot revoke; null if there is none. */
export function outsideOfSet({ pdev, deviceSet }: ResettableDevice): PciFunction | null {
  const members = new Set(deviceSet.devices.map((device) => device.pdev));
  return hotResetScope(pdev).find((hit) => !members.has(hit)) ?? null;
}

/**
 * Resets the bus of a device, and revokes the memory of its whole set meanwhile. The set's lock is held. EBUSY as in
 * `hotReset`.
 */
export function* resetSet(vdev: ResettableDevice, cause: RevokeCause): Task {
  const set = vdev.deviceSet;
  const locked: ResettableDevice[] = [];
  let isReset = false;
  try {
    for (const device of set.devices) {
      if (!(yield* device.memoryLock.tryWrite())) {
        throw new Errno('EBUSY', `the memory of ${device.pdev.name} is in use; try again`);
      }
      locked.push(device);
      yield* revokeMemory(device, cause);
    }
    for (const device of set.devices) yield* device.pdev.setPowerState(PCI_D0);
    yield* resetBus(vdev.pdev);
    isReset = true;
  } finally {
    // Only devices whose lock was taken: the state of the others must not be read.
    for (const device of locked.reverse()) {
      if (device.isOpen) yield* restoreMemory(device);
      yield* device.memoryLock.releaseWrite();
      if (isReset && device.migration !== null) yield* device.migration.reset();
    }
  }
}
