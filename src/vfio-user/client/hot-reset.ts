/** The two hot-reset commands (an extension) on the client's side. */
import { Errno } from '../../abi/errno.ts';
import { vfio_pci_dependent_device, vfio_pci_hot_reset, vfio_pci_hot_reset_info } from '../../abi/vfio.ts';
import { VFIO_USER_X_GET_PCI_HOT_RESET_INFO, VFIO_USER_X_PCI_HOT_RESET } from '../../abi/vfio-user.ts';
import type { DependentDevice } from '../../vfio/reset.ts';
import { ask, type Exchange, replyOf } from './exchange.ts';

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the devices that a hot reset would hit. */
export function* hotResetInfo(): Exchange<DependentDevice[]> {
  const request = vfio_pci_hot_reset_info.encode({ argsz: vfio_pci_hot_reset_info.sizeof });
  const payload = yield* ask(VFIO_USER_X_GET_PCI_HOT_RESET_INFO, request);
  const view = replyOf(payload, vfio_pci_hot_reset_info);
  const { count } = vfio_pci_hot_reset_info.read(view);
  if (payload.length !== vfio_pci_hot_reset_info.sizeof + count * vfio_pci_dependent_device.sizeof) {
    throw new Errno('EPROTO', `hot-reset info: ${count} devices in ${payload.length} bytes`);
  }
  return Array.from({ length: count }, (_, i) => {
    const at = vfio_pci_hot_reset_info.sizeof + i * vfio_pci_dependent_device.sizeof;
    const { group_id, segment, bus, devfn } = vfio_pci_dependent_device.read(view, at);
    return { groupId: group_id, segment, bus, devfn };
  });
}

/** VFIO_DEVICE_PCI_HOT_RESET. This process must have every other device of the set that is in use. */
export function* hotReset(): Exchange<void> {
  yield* ask(VFIO_USER_X_PCI_HOT_RESET, vfio_pci_hot_reset.encode({ argsz: vfio_pci_hot_reset.sizeof }));
}
