/** Steps of root on a device's files in sysfs, on a real kernel. */
import type { StepIn } from '../step.ts';
import { DEVICE_GOES } from '../sysfs-schema.ts';
import { takeSysfsStep } from './sysfs-files.ts';
import type { LinuxWorld } from './world.ts';

export function sysfsStep(world: LinuxWorld, step: StepIn<'sysfs'>): unknown {
  return takeSysfsStep(noteSysfsStep(world, step), step);
}

/** Takes a step in a separate thread. */
export function startSysfsStep(world: LinuxWorld, step: StepIn<'sysfs'>, as: string): 'ended' | 'blocked' {
  const call = { step, address: noteSysfsStep(world, step), deviceFd: -1, groups: [] };
  return world.started.start(as, call, () => {});
}

/** The address of the step's device. Notes the devices that the scenario's end must bring back. */
function noteSysfsStep(world: LinuxWorld, step: StepIn<'sysfs'>): string {
  if (!('device' in step)) return '';
  if (DEVICE_GOES.has(step.op)) world.takenAway.add(step.device);
  return world.address(step.device);
}
