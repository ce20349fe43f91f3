/**
 * Scenarios on served devices: a server in a thread of this process, and a client for each device that a step opens.
 */
import type { ServedMachine } from '../../machine/served.ts';
import type { Task } from '../../task/op.ts';
import { PROFILES, type ProfileName } from '../../vfio/profile.ts';
import { asTask, type Backend, outcome, type StepTakers, takeStep } from '../backend.ts';
import type { Step, StepResult } from '../step.ts';
import { unsupported } from './check.ts';
import { descriptorStep } from './descriptor.ts';
import { deviceStep } from './device.ts';
import { importerStep } from './importer.ts';
import { mappingStep } from './mapping.ts';
import { VfioUserWorld } from './world.ts';

const TAKERS: StepTakers<VfioUserWorld, Task<unknown>> = {
  device: deviceStep,
  mapping: asTask(mappingStep),
  descriptor: asTask(descriptorStep),
  importer: asTask(importerStep),
  ioas: asTask((_, step) => unsupported(step)),
  sysfs: asTask((_, step) => unsupported(step)),
  start: asTask((_, step) => unsupported(step)),
};

export class VfioUserBackend implements Backend {
  readonly name = 'vfio-user';
  readonly rules: ProfileName;
  private readonly world: VfioUserWorld;

  /** `profile`: the server's. */
  constructor(served: Pick<ServedMachine, 'devices'>, profile = PROFILES.default) {
    this.world = new VfioUserWorld(served, profile.proposed);
    this.rules = profile.name;
  }

  perform(step: Step): Task<StepResult> {
    return step.op === 'join' ? unsupported(step) : outcome(takeStep(this.world, step, TAKERS));
  }

  *dispose(): Task {
    this.world.close();
  }
}
