/**
 * Scenarios on Barter's own engine, in process: the default of `barter run`, and the backend that the explorer drives.
 */
import type { Machine } from '../../machine/build.ts';
import type { Task } from '../../task/op.ts';
import { BarMapping } from '../../vfio/mmap.ts';
import { PROFILES, type Profile, type ProfileName } from '../../vfio/profile.ts';
import { type Backend, outcome, type StepTakers, takeStep } from '../backend.ts';
import { isIn, type Step, type StepResult } from '../step.ts';
import { descriptorStep } from './descriptor.ts';
import { deviceStep } from './device.ts';
import { importerStep } from './importer.ts';
import { ioasStep } from './ioas.ts';
import { mappingStep } from './mapping.ts';
import { sysfsStep } from './sysfs.ts';
import { EngineWorld } from './world.ts';

const TAKERS: StepTakers<EngineWorld, Task<unknown>> = {
  device: deviceStep,
  mapping: mappingStep,
  descriptor: descriptorStep,
  importer: importerStep,
  ioas: ioasStep,
  sysfs: sysfsStep,
  start: (world, { step, as }) =>
    world.started.start(as, outcome(isIn('sysfs', step) ? sysfsStep(world, step) : deviceStep(world, step))),
};

export class EngineBackend implements Backend {
  readonly name: string;
  readonly rules: ProfileName;
  readonly world: EngineWorld;

  constructor(machine: Machine, profile: Profile = PROFILES.default) {
    this.name = `engine (${profile.name})`;
    this.rules = profile.name;
    this.world = new EngineWorld(machine, profile);
  }

  perform(step: Step): Task<StepResult> {
    const { world } = this;
    if (step.op === 'join') return world.started.join(step.of);
    const taken = outcome(takeStep(world, step, TAKERS));
    return world.started.isEmpty ? taken : world.started.letRunAfter(taken);
  }

  /** Releases everything as the exit of the process does: importers first, then descriptors, then devices. */
  *dispose(): Task {
    const world = this.world;
    // A step that still waits for a fence holds locks that the release needs.
    for (const fence of world.fences.values()) yield* fence.signal();
    for (const importer of world.importers.values()) yield* importer.dispose();
    for (const device of [...world.attached.keys()]) yield* world.detachFromIoas(device);
    for (const ioas of world.ioases.values()) yield* ioas.destroy();
    for (const release of world.holds.values()) yield* release();
    for (const map of world.maps.values()) if (!(map instanceof BarMapping)) yield* map.unmap();
    yield* world.files.closeAll();
    yield* world.deviceFiles.closeAll();
  }
}
