/** Which devices are on the bus and bound to vfio-pci. Root takes them away and brings them back. */
import { Errno } from '../../abi/errno.ts';
import { type LockClass, Mutex } from '../../task/lock.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciCoreDevice } from '../../vfio/core.ts';
import { bind, unbind } from '../../vfio/driver.ts';
import type { Profile } from '../../vfio/profile.ts';

const RESCAN_REMOVE_CLASS: LockClass = { name: 'pci_rescan_remove_lock' };

export class Drivers {
  /** The one lock of all buses (pci_lock_rescan_remove). */
  private readonly busLock = new Mutex(RESCAN_REMOVE_CLASS);
  private readonly devices: Map<string, VfioPciCoreDevice>;
  private readonly waitsOutsideBusLock: boolean;
  /** Devices without a driver. */
  private readonly unbound = new Set<string>();
  /** Devices that are not on the bus. */
  private readonly removed = new Set<string>();

  constructor(devices: Map<string, VfioPciCoreDevice>, { waitsOutsideBusLock }: Profile) {
    this.devices = devices;
    this.waitsOutsideBusLock = waitsOutsideBusLock;
  }

  /** ENOENT for a device that is not on the bus. */
  checkThere(name: string): void {
    if (this.removed.has(name)) throw new Errno('ENOENT', `${name} was removed from the bus`);
  }

  /** Whether a user can open the device. ENODEV for a removed device, ENOENT for one without a driver. */
  checkBound(name: string): void {
    if (this.removed.has(name)) throw new Errno('ENODEV', `${name} was removed from the bus`);
    if (this.unbound.has(name)) throw new Errno('ENOENT', `${name} is not bound to vfio-pci`);
  }

  /** Waits until the user has closed the device. ENOENT without a driver. */
  *unbind(name: string): Task<null> {
    if (this.unbound.has(name)) throw new Errno('ENOENT', `${name} has no driver`);
    yield* unbind(this.devices.get(name)!);
    this.unbound.add(name);
    return null;
  }

  /** Waits for the users, and then takes the devices off the bus (Profile.waitsOutsideBusLock). */
  *remove(names: readonly string[]): Task<null> {
    const there = names.filter((name) => !this.removed.has(name));
    const unbind = (): Task => this.unbindAll(there);
    if (this.waitsOutsideBusLock) yield* unbind();
    yield* this.busLock.lock();
    try {
      if (!this.waitsOutsideBusLock) yield* unbind();
      for (const name of there) this.removed.add(name);
    } finally {
      yield* this.busLock.unlock();
    }
    return null;
  }

  *rescan(): Task<null> {
    yield* this.busLock.lock();
    this.removed.clear();
    yield* this.busLock.unlock();
    return null;
  }

  private *unbindAll(names: readonly string[]): Task {
    for (const name of names) if (!this.unbound.has(name)) yield* this.unbind(name);
  }

  bind(name: string): null {
    this.checkThere(name);
    const old = this.devices.get(name)!;
    if (this.unbound.delete(name)) this.devices.set(name, bind(old));
    return null;
  }

  /** Virtual functions come back with their driver. */
  *bringBack(names: readonly string[]): Task<null> {
    yield* this.busLock.lock();
    for (const name of names) {
      this.removed.delete(name);
      this.bind(name);
    }
    yield* this.busLock.unlock();
    return null;
  }
}
