/** The steps of root, from outside of the process that has a device. */
import * as z from 'zod';
import { name, size, step, u32 } from './step-schema.ts';

/** Steps of root on the files that the PCI core has for a device in sysfs, whether it is open or not. */
export const sysfsSteps = [
  step('sysfs-reset', 'Writes 1 to `reset`: the PCI core resets the function, by `method` if there is one.', {
    device: name,
    method: z.enum(['flr', 'af_flr', 'pm', 'bus']).optional(),
  }),
  step('sysfs-reset-subordinate', 'Writes 1 to `reset_subordinate` of the port above: a reset of its secondary bus.', {
    device: name,
  }),
  step('sysfs-config-read', 'Reads `config`: the registers themselves.', { device: name, offset: u32, size }),
  step('sysfs-config-write', 'Writes `config`, as setpci does: the registers themselves, without the driver.', {
    device: name,
    offset: u32,
    size,
    value: u32,
  }),
  step('sysfs-power-control', 'Writes `power/control`: `on` wakes the device and keeps it awake.', {
    device: name,
    control: z.enum(['on', 'auto']),
  }),
  step('sysfs-d3cold-allowed', 'Writes `d3cold_allowed`, which wakes the device.', {
    device: name,
    allowed: z.boolean(),
  }),
  step('sysfs-unbind', 'Takes the driver off the device: waits until its user has closed it.', { device: name }),
  step('sysfs-remove', 'Writes 1 to `remove`: the device leaves the bus, after its driver.', { device: name }),
  step('sysfs-rescan', 'Writes 1 to `rescan` of the bus. Devices that were removed come back, without a driver.', {}),
  step('sysfs-bind', 'Gives the device to vfio-pci.', { device: name }),
  step('aer-inject', 'Injects a PCI Express error by the module aer_inject. A fatal one makes Linux reset the link.', {
    device: name,
    fatal: z.boolean(),
  }),
  step('sysfs-numvfs', 'Writes `sriov_numvfs` of a physical function. 0 takes the virtual functions away.', {
    device: name,
    count: u32.max(1),
  }),
] as const;

/** Steps of root after which a device may be without its driver, or off the bus. */
export const DEVICE_GOES: ReadonlySet<string> = new Set(['sysfs-unbind', 'sysfs-remove', 'sysfs-numvfs']);
