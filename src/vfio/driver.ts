/** vfio-pci bound to functions: decides which devices share a set, and which PF each VF belongs to. */
import type { PciFunction } from '../pci/function.ts';
import { hotResetScope } from '../pci/reset.ts';
import type { Task } from '../task/op.ts';
import { VfioPciCoreDevice } from './core.ts';
import { DeviceSet } from './device-set.ts';
import type { Profile } from './profile.ts';

/**
 * Binds every function, keyed by its name. Functions that a slot or bus reset hits together share a device set
 * (vfio_pci_core_register_device), while a VF is alone in one. Each VF gets a reference to its PF.
 */
export function buildVfioDevices(
  functions: ReadonlyMap<string, PciFunction>,
  profile: Profile,
): Map<string, VfioPciCoreDevice> {
  const sets = new Map<PciFunction, DeviceSet<VfioPciCoreDevice>>();
  const devices = new Map<string, VfioPciCoreDevice>();
  const byFunction = new Map<PciFunction, VfioPciCoreDevice>();
  for (const [name, pdev] of functions) {
    if (!sets.has(pdev)) {
      const set = new DeviceSet<VfioPciCoreDevice>();
      const members = pdev.isVirtfn ? [] : hotResetScope(pdev).filter((member) => !member.isVirtfn);
      for (const member of [pdev, ...members]) sets.set(member, set);
    }
    const physfn = pdev.physfn === null ? null : (byFunction.get(pdev.physfn) ?? null);
    const options = { profile, deviceSet: sets.get(pdev)! };
    const device = new VfioPciCoreDevice(pdev, physfn === null ? options : { ...options, physfn });
    devices.set(name, device);
    byFunction.set(pdev, device);
  }
  return devices;
}

/** Takes the driver off a device: waits until its user has closed it, and its buffers hold it no more. */
export function* unbind(vdev: VfioPciCoreDevice): Task {
  yield* vdev.unregister();
  drop(vdev.deviceSet.devices, vdev);
  if (vdev.physfn !== null) drop(vdev.physfn.virtfns, vdev);
}

/** Gives a device that was unbound to vfio-pci again. */
export function bind({ pdev, profile, deviceSet, physfn }: VfioPciCoreDevice): VfioPciCoreDevice {
  return new VfioPciCoreDevice(pdev, { profile, deviceSet, ...(physfn === null ? {} : { physfn }) });
}

function drop<T>(list: T[], item: T): void {
  const index = list.indexOf(item);
  if (index >= 0) list.splice(index, 1);
}
