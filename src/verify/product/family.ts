/** Builders for the product's scenarios. */

import type { ProgramFamily } from '../../explore/world/program.ts';
import type { MachineDescription } from '../../machine/schema.ts';
import type { Step } from '../../scenario/step.ts';
import type { Profile } from '../../vfio/profile.ts';
import { ProductStage } from './stage.ts';

const MAX_IMPORTERS = 5;
const BAR = 0;
const PAGE = 4096;
const BUS_MASTER_AND_MEMORY = 6;

export const EXPORT: Step = { op: 'export', device: 'lender', region: BAR, ranges: [[0, PAGE]], as: 'buf' };
export const ATTACH: Step = { op: 'attach', fd: 'buf', device: 'borrower', as: 'importer' };
export const MAP: Step = { op: 'map', importer: 'importer', as: 'mapping' };
export const OFF: Step = { op: 'memory', device: 'lender', on: false };
export const ON: Step = { op: 'memory', device: 'lender', on: true };

export const OPEN: readonly Step[] = [
  { op: 'open', device: 'lender' },
  { op: 'open', device: 'borrower' },
  { op: 'config-write', device: 'borrower', offset: 4, size: 2, value: BUS_MASTER_AND_MEMORY },
];

interface ProductParts {
  /** The machine; two peers by default. */
  machine?: MachineDescription;
  /** How many registrations the lender ends with: 0 if it was unregistered. */
  registrations?: number;
  /** The rules of the devices; the default ones by default. */
  profile?: Profile;
}

/** A scenario of one size. */
export function scenario(
  name: string,
  summary: string,
  build: (set: ProductStage) => void,
  parts: ProductParts = {},
): ProgramFamily {
  return { name, summary, sizes: null, isClassic: false, make: () => program(name, summary, build, parts) };
}

/** A scenario with one to five importers; one by default. */
export function withImporters(
  name: string,
  summary: string,
  build: (set: ProductStage, importers: readonly string[]) => void,
): ProgramFamily {
  return {
    name,
    summary,
    sizes: { min: 1, max: MAX_IMPORTERS, usual: 1 },
    isClassic: false,
    make: (count) => {
      const importers = Array.from({ length: count }, (_, i) => (count === 1 ? 'importer' : `importer${i + 1}`));
      return program(count === 1 ? name : `${name}:${count}`, summary, (set) => build(set, importers), {});
    },
  };
}

/** A scenario written in scenario steps alone: steps that run before, then the steps of each task. */
export function steps(
  name: string,
  summary: string,
  before: readonly Step[],
  tasks: Record<string, Step[]>,
): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, ...before]);
    for (const [label, list] of Object.entries(tasks)) set.task(label, list);
  });
}

/** Like `steps`, for scenarios in which one task closes the device that another task uses. */
export function stepsWithFile(
  name: string,
  summary: string,
  before: readonly Step[],
  tasks: Record<string, Step[]>,
): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, ...before]);
    for (const [label, list] of Object.entries(tasks)) set.taskWithFile(label, list);
  });
}

/** The steps that attach and map the importer `name`. */
export function importerSteps(name: string, fd = 'buf'): { attach: Step; map: Step; unmap: Step; detach: Step } {
  return {
    attach: { op: 'attach', fd, device: 'borrower', as: name },
    map: { op: 'map', importer: name, as: `mapping of ${name}` },
    unmap: { op: 'unmap', map: `mapping of ${name}` },
    detach: { op: 'detach', importer: name },
  };
}

function program(name: string, summary: string, build: (set: ProductStage) => void, parts: ProductParts) {
  return {
    name,
    summary,
    build(stage: ConstructorParameters<typeof ProductStage>[0]): void {
      const set = new ProductStage(stage, parts.machine, parts.profile);
      build(set);
      set.checkAtEnd(parts.registrations);
    },
  };
}
