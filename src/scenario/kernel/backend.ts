/** Scenarios on a real kernel: /dev/vfio for devices, the lab's module for importers. */
import type { Task } from '../../task/op.ts';
import type { ProfileName, Proposed } from '../../vfio/profile.ts';
import { asTask, type Backend, outcome, type StepTakers, takeStep } from '../backend.ts';
import { isIn, type Step, type StepOf, type StepResult } from '../step.ts';
import { descriptorStep } from './descriptor.ts';
import { deviceStep, startDeviceStep } from './device.ts';
import { importerStep } from './importer.ts';
import { ioasStep } from './ioas.ts';
import { mappingStep } from './mapping.ts';
import type { StartedThreads } from './started.ts';
import { startSysfsStep, sysfsStep } from './sysfs.ts';
import { LinuxWorld } from './world.ts';

const TAKERS: StepTakers<LinuxWorld, Task<unknown>> = {
  device: deviceStep,
  mapping: asTask(mappingStep),
  descriptor: asTask(descriptorStep),
  importer: asTask(importerStep),
  ioas: asTask(ioasStep),
  sysfs: asTask(sysfsStep),
  start: asTask(startStep),
};

function startStep(world: LinuxWorld, { step, as }: StepOf<'start'>): 'ended' | 'blocked' {
  return isIn('sysfs', step) ? startSysfsStep(world, step, as) : startDeviceStep(world, step, as);
}

export interface LinuxOptions {
  /** Needed for scenarios with `start` steps. */
  threads?: StartedThreads;
  /** What of the proposals the kernel has, if it has patches. */
  proposed?: Proposed | null;
}

export class LinuxBackend implements Backend {
  readonly name: string;
  readonly rules: ProfileName;
  readonly world: LinuxWorld;

  /**
   * `addresses` has the PCI address for each device name of the scenario. The caller must have bound the lender to
   * vfio-pci.
   */
  constructor(release: string, addresses: ReadonlyMap<string, string>, options: LinuxOptions = {}) {
    this.name = `linux ${release}`;
    this.rules = options.proposed == null ? 'linux-7.3' : 'next';
    this.world = new LinuxWorld(addresses, options.threads ?? null, options.proposed ?? null);
  }

  *perform(step: Step): Task<StepResult> {
    const { world } = this;
    if (step.op === 'join') return world.started.join(step.of);
    const result = yield* outcome(takeStep(world, step, TAKERS));
    world.started.settle();
    return result;
  }

  *dispose(): Task {
    this.world.close();
  }
}
