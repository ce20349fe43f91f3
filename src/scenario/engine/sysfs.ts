/** Steps of root on a device's files in sysfs, on the engine. */
import { Errno } from '../../abi/errno.ts';
import { PCI_EXT_CAP_ID_SRIOV } from '../../abi/pci_regs.ts';
import type { Task } from '../../task/op.ts';
import { resume } from '../../vfio/pm.ts';
import type { StepIn } from '../step.ts';
import type { EngineWorld } from './world.ts';

export function* sysfsStep(world: EngineWorld, step: StepIn<'sysfs'>): Task<unknown> {
  const { drivers } = world;
  if (step.op === 'sysfs-rescan') return yield* drivers.rescan();
  if (step.op === 'sysfs-bind') return drivers.bind(step.device);
  const vdev = world.device(step.device);
  drivers.checkThere(step.device);
  switch (step.op) {
    case 'sysfs-reset':
      return yield* vdev.sysfsReset(step.method);
    case 'sysfs-reset-subordinate':
      return yield* vdev.sysfsResetSubordinate();
    case 'sysfs-config-read':
      return vdev.pdev.configRead(step.offset, step.size);
    case 'sysfs-config-write':
      return yield* vdev.sysfsConfigWrite(step.offset, step.size, step.value);
    case 'sysfs-power-control':
      return step.control === 'on' ? yield* resume(vdev) : null;
    case 'sysfs-d3cold-allowed':
      return yield* resume(vdev);
    case 'aer-inject':
      return yield* vdev.busError(step.fatal);
    case 'sysfs-unbind':
      return yield* drivers.unbind(step.device);
    case 'sysfs-remove':
      return yield* drivers.remove([step.device]);
    case 'sysfs-numvfs': {
      if (vdev.pdev.config.findExt(PCI_EXT_CAP_ID_SRIOV) === 0 || vdev.pdev.isVirtfn) {
        throw new Errno('ENOENT', `${vdev.pdev.name} has no virtual functions, so no such file`);
      }
      const virtfns = vdev.pdev.virtfns.map(({ name }) => name);
      return yield* step.count === 0 ? drivers.remove(virtfns) : drivers.bringBack(virtfns);
    }
  }
}
