/** Steps of root on a device's files in sysfs, on the engine. */
import type { Task } from '../../task/op.ts';
import type { StepIn } from '../step.ts';
import type { EngineWorld } from './world.ts';

export function* sysfsStep(world: EngineWorld, step: StepIn<'sysfs'>): Task<unknown> {
  const vdev = world.device(step.device);
  switch (step.op) {
    case 'sysfs-reset':
      return yield* vdev.sysfsReset();
    case 'sysfs-reset-subordinate':
      return yield* vdev.sysfsResetSubordinate();
    case 'sysfs-config-read':
      return vdev.pdev.configRead(step.offset, step.size);
    case 'sysfs-config-write':
      return yield* vdev.sysfsConfigWrite(step.offset, step.size, step.value);
  }
}
