/** The two hot-reset ioctls over a connection: an extension of ours (abi/vfio-user.ts). */
import { Errno } from '../../abi/errno.ts';
import { vfio_pci_dependent_device, vfio_pci_hot_reset, vfio_pci_hot_reset_info } from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import { hotResetInfo } from '../../vfio/reset.ts';
import type { Frame } from '../wire/frame.ts';
import { checkArgsz, decode, type Reply } from './reply.ts';
import type { ReadySession } from './session.ts';

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: all of the list, however little room argsz says. */
export function* getHotResetInfo({ vdev }: ReadySession, frame: Frame, reply: Reply): Task {
  const { argsz } = vfio_pci_hot_reset_info.read(decode(vfio_pci_hot_reset_info, frame));
  checkArgsz(argsz, vfio_pci_hot_reset_info);
  const devices = hotResetInfo(vdev);
  const size = vfio_pci_hot_reset_info.sizeof + devices.length * vfio_pci_dependent_device.sizeof;
  reply.append(vfio_pci_hot_reset_info.encode({ argsz: size, count: devices.length }));
  for (const { groupId, segment, bus, devfn } of devices) {
    reply.append(vfio_pci_dependent_device.encode({ group_id: groupId, segment, bus, devfn }));
  }
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET. A device of the set is the caller's when nobody has it, or a client of the same process;
 * all processes of other pid namespaces have number 0 here, so that each of those has its own connection alone. A
 * group is the caller's when all of its devices are: here others may have some, as they cannot in the kernel.
 */
export function* pciHotReset(session: ReadySession, frame: Frame): Task {
  const { vdev, peerPid, host } = session;
  const { argsz, flags, count } = vfio_pci_hot_reset.read(decode(vfio_pci_hot_reset, frame));
  checkArgsz(argsz, vfio_pci_hot_reset);
  if (flags !== 0 || count !== 0) throw new Errno('EINVAL', `PCI_HOT_RESET: flags ${flags}, ${count} descriptors`);
  const owned = new Set<number>();
  const others = new Set<number>();
  for (const device of vdev.deviceSet.devices) {
    const owner = host.ownerOf(device);
    const isCallers = owner === null || owner === session || (peerPid > 0 && owner.peerPid === peerPid);
    (isCallers ? owned : others).add(device.pdev.iommuGroup);
  }
  for (const group of others) owned.delete(group);
  yield* vdev.hotReset([...owned]);
}
