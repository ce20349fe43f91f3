/** The two hot-reset ioctls over a connection: an extension of Barter (abi/vfio-user.ts). */
import { Errno } from '../../abi/errno.ts';
import { vfio_pci_dependent_device, vfio_pci_hot_reset, vfio_pci_hot_reset_info } from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import { hotResetInfo } from '../../vfio/reset.ts';
import type { Frame } from '../wire/frame.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. Returns the whole list, even where argsz has too little room. */
export function* getHotResetInfo({ vdev }: RequestContext, frame: Frame, reply: Reply): Task {
  decodeSized(vfio_pci_hot_reset_info, frame);
  const devices = hotResetInfo(vdev);
  const size = vfio_pci_hot_reset_info.sizeof + devices.length * vfio_pci_dependent_device.sizeof;
  reply.append(vfio_pci_hot_reset_info.encode({ argsz: size, count: devices.length }));
  for (const { groupId, segment, bus, devfn } of devices) {
    reply.append(vfio_pci_dependent_device.encode({ group_id: groupId, segment, bus, devfn }));
  }
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET. A group counts as the caller's when all of its devices do (`mayReset`). Unlike in the
 * kernel, other clients may have some of them here.
 */
export function* pciHotReset(context: RequestContext, frame: Frame): Task {
  const { vdev } = context;
  const { flags, count } = vfio_pci_hot_reset.read(decodeSized(vfio_pci_hot_reset, frame));
  if (flags !== 0 || count !== 0) throw new Errno('EINVAL', `PCI_HOT_RESET: flags ${flags}, ${count} descriptors`);
  const owned = new Set<number>();
  const others = new Set<number>();
  for (const device of vdev.deviceSet.devices) {
    (context.mayReset(device) ? owned : others).add(device.pdev.iommuGroup);
  }
  for (const group of others) owned.delete(group);
  yield* vdev.hotReset([...owned]);
}
