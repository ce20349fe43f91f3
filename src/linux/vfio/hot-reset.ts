import { ERRNO, Errno } from '../../abi/errno.ts';
import {
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  vfio_pci_dependent_device,
  vfio_pci_hot_reset,
  vfio_pci_hot_reset_info,
} from '../../abi/vfio.ts';
import { check, Pinned } from '../ffi.ts';
import type { VfioDevice } from './device.ts';

/** A device that a hot reset takes along: its group or, with `flags` DEV_ID, its iommufd id. */
export interface KernelDependentDevice {
  groupId: number;
  /** "0000:01:00.0" */
  bdf: string;
}

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. ENODEV when neither slot nor bus can be reset. */
export function hotResetInfo(device: VfioDevice): { flags: number; devices: KernelDependentDevice[] } {
  let count = 16;
  for (let attempt = 0; attempt < 4; attempt++) {
    const argument = new Pinned(vfio_pci_hot_reset_info.sizeof + count * vfio_pci_dependent_device.sizeof);
    vfio_pci_hot_reset_info.fields.argsz.set(argument.view, 0, argument.bytes.length);
    const result = device.ioctlCall(device.fd.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, argument);
    const info = vfio_pci_hot_reset_info.read(argument.view);
    if (result !== -ERRNO.ENOSPC) {
      check(result, () => `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO on ${device.name}`);
      return { flags: info.flags, devices: Array.from({ length: info.count }, (_, i) => dependent(argument.view, i)) };
    }
    count = info.count; // it wrote how many there are
  }
  throw new Errno('ENOSPC', `the devices that a hot reset of ${device.name} takes along keep growing`);
}

/**
 * VFIO_DEVICE_PCI_HOT_RESET. `groupFds` prove that the caller owns every group concerned. A device opened as a cdev
 * passes none: its iommufd is the proof. EPERM without the proof, EBUSY when a device's memory is in use.
 */
export function hotReset(device: VfioDevice, groupFds: readonly number[]): void {
  const argument = new Pinned(vfio_pci_hot_reset.sizeof + 4 * groupFds.length);
  vfio_pci_hot_reset.write(argument.view, 0, { argsz: argument.bytes.length, count: groupFds.length });
  for (const [i, fd] of groupFds.entries()) argument.view.setInt32(vfio_pci_hot_reset.sizeof + 4 * i, fd, true);
  device.ioctl(VFIO_DEVICE_PCI_HOT_RESET, argument, `VFIO_DEVICE_PCI_HOT_RESET(${groupFds.length} groups)`);
}

function dependent(view: DataView, index: number): KernelDependentDevice {
  const at = vfio_pci_hot_reset_info.sizeof + index * vfio_pci_dependent_device.sizeof;
  const { group_id, segment, bus, devfn } = vfio_pci_dependent_device.read(view, at);
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return { groupId: group_id, bdf: `${hex(segment, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}` };
}
