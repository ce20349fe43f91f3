/**
 * Runs every trigger after every other and judges from outside: afterwards a peer may map exactly if the device's
 * memory can be used. The judge sees only the results of steps, not the engine or the kernel.
 */
import { PCI_CAP_ID_PM, PCI_COMMAND, PCI_PM_CTRL } from '../../src/abi/pci_regs.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';
import { ProgramAnswers } from './answers.ts';
import type { DeviceTraits } from './lenders.ts';

/** A named part of a program. */
export interface TriggerSteps {
  name: string;
  steps: Step[];
}

/** A family of programs, and the judge of their results. */
export interface Matrix {
  /** The programs for the devices of a lender, the first one above all. */
  entries(devices: readonly DeviceTraits[], description: MachineDescription, canInjectErrors: boolean): MatrixEntry[];
  /** The invariants that the results of an entry break. `program` is the one that ran. */
  violations(entry: MatrixEntry, program: readonly Step[], result: RunResult): Violation[];
  /** The finding (lab/findings/) that explains why Linux breaks this invariant after these parts; null if none does. */
  findingOf(violation: Violation, triggers: readonly string[]): string | null;
}

/** Every step that changes, or might change, whether a device's memory can be used. */
export function triggers({ name: device, region }: DeviceTraits): TriggerSteps[] {
  const one = (name: string, step: object): TriggerSteps => ({ name, steps: [{ device, ...step } as Step] });
  const command = (name: string, size: number, value: number, at = 0) =>
    one(name, { op: 'config-write', offset: PCI_COMMAND + at, size, value });
  const power = (name: string, size: number, value: number) =>
    one(name, { op: 'cap-write', cap: PCI_CAP_ID_PM, offset: PCI_PM_CTRL, size, value });
  return [
    one('memory-off', { op: 'memory', on: false }),
    one('memory-on', { op: 'memory', on: true }),
    command('byte-off', 1, 0),
    command('byte-on', 1, 2),
    command('high-byte', 1, 4, 1),
    command('dword-on', 4, 2),
    ...[0, 1, 2, 3].map((state) => one(`D${state}`, { op: 'power', state })),
    power('D3-byte', 1, 3),
    power('D0-dword', 4, 0),
    one('flr', { op: 'flr' }),
    one('reset', { op: 'reset' }),
    one('hot-reset', { op: 'hot-reset' }),
    one('hot-reset-refused', { op: 'hot-reset', groups: 0 }),
    one('sleep', { op: 'low-power-entry' }),
    one('sleep-with-wakeup', { op: 'low-power-entry-with-wakeup', as: 'wake' }),
    one('exit', { op: 'low-power-exit' }),
    one('ioctl', { op: 'irq-info', index: 0 }),
    one('config-read', { op: 'config-read', offset: 0, size: 4 }),
    one('region-read', { op: 'region-read', region, offset: 0, length: 4 }),
    one('msi', { op: 'set-irqs', flags: 0x24, index: 2, start: 0, count: 1, events: ['msi'] }),
    one('open', { op: 'open' }),
    {
      name: 'reopen',
      steps: [
        { op: 'open', device },
        { op: 'close', device },
      ],
    },
  ];
}

/** Every sequence of at most `most` triggers, shorter ones first. */
function sequences(all: readonly TriggerSteps[], most: number): TriggerSteps[][] {
  let longest: TriggerSteps[][] = [[]];
  const found: TriggerSteps[][] = [];
  for (let length = 1; length <= most; length++) {
    longest = longest.flatMap((sequence) => all.map((trigger) => [...sequence, trigger]));
    found.push(...longest);
  }
  return found;
}

/** The stage of a buffer, its descriptor and its importer at the time of the triggers. */
interface MatrixState {
  name: string;
  /** The steps before and after the triggers. Afterwards the importer `peer` exists. */
  before: Step[];
  after: Step[];
}

/** The names of the stages, in order. */
export const STAGES = ['mapped', 'exported', 'attached', 'descriptor-closed', 'fence-signalled', 'several-ranges'];

function stages({ name: device, region }: DeviceTraits): MatrixState[] {
  const ranges: [number, number][] = [[0, 4096]];
  const made: Step = { op: 'export', device, region, ranges, as: 'buffer' };
  const attach: Step = { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' };
  const map: Step = { op: 'map', importer: 'peer', as: 'lent' };
  const fence: Step = { op: 'add-fence', importer: 'peer', usage: 'bookkeep', as: 'fence' };
  return [
    { name: 'mapped', before: [made, attach, map], after: [] },
    { name: 'exported', before: [made], after: [attach] },
    { name: 'attached', before: [made, attach], after: [] },
    { name: 'descriptor-closed', before: [made, attach, map, { op: 'close-fd', fd: 'buffer' }], after: [] },
    { name: 'fence-signalled', before: [made, attach, map, fence, { op: 'signal-fence', fence: 'fence' }], after: [] },
    {
      // Maps for the lender itself: Linux does not map several ranges through the IOMMU.
      name: 'several-ranges',
      before: [{ ...made, ranges: [[0, 4096], ...ranges] }, { ...attach, device }, map],
      after: [],
    },
  ];
}

/** One program of the matrix: its triggers, and the stage of the buffer's life in which they come. */
export interface MatrixEntry {
  stage: string;
  sequence: TriggerSteps[];
  program: Step[];
}

/**
 * Every sequence of at most `most` triggers. Each runs in every named stage, one stage after the other. Without names,
 * each runs in one stage, and the stages take turns.
 */
function matrix(traits: DeviceTraits, named: readonly string[], most: number): MatrixEntry[] {
  const lives = stages(traits);
  const all = sequences(triggers(traits), most);
  const entry = (sequence: TriggerSteps[], stage: MatrixState): MatrixEntry => ({
    stage: stage.name,
    sequence,
    program: matrixProgram(traits, sequence, stage),
  });
  if (named.length === 0) return all.map((sequence, i) => entry(sequence, lives[i % lives.length]));
  const chosen = lives.filter(({ name }) => named.includes(name));
  return chosen.flatMap((stage) => all.map((sequence) => entry(sequence, stage)));
}

/**
 * Makes a program: a buffer in one stage of its life and a mapping of the user's, then the triggers, then the
 * questions.
 */
function matrixProgram(traits: DeviceTraits, chosen: readonly TriggerSteps[], stage: MatrixState): Step[] {
  const { name: device, region } = traits;
  const ranges: [number, number][] = [[0, 4096]];
  return [
    { op: 'open', device },
    { op: 'memory', device, on: true },
    ...stage.before,
    { op: 'mmap', device, region, offset: 0, length: 4096, as: 'bar' },
    ...chosen.flatMap(({ steps }) => steps),
    ...stage.after,
    { op: 'callbacks', importer: 'peer' },
    { op: 'map', importer: 'peer', as: 'lent1' },
    { op: 'mmap-read', map: 'bar', offset: 0, length: 4 },
    // A read of config space wakes a sleeping device, so this asks again in the present state.
    { op: 'cap-read', device, cap: PCI_CAP_ID_PM, offset: PCI_PM_CTRL, size: 1 },
    { op: 'callbacks', importer: 'peer' },
    { op: 'map', importer: 'peer', as: 'lent2' },
    { op: 'mmap-read', map: 'bar', offset: 0, length: 4 },
    { op: 'export', device, region, ranges, as: 'fresh' },
    { op: 'attach', fd: 'fresh', device: 'borrower', as: 'other' },
    { op: 'region-read', device, region, offset: 0, length: 4 },
  ];
}

export interface BrokenBy {
  violation: Violation;
  triggers: string[];
}

/** Keeps only the shortest violations: drops each whose triggers contain those of another. */
export class Shortest {
  private readonly found = new Map<string, BrokenBy[]>();

  add(violation: Violation, sequence: readonly TriggerSteps[]): void {
    const triggers = sequence.map(({ name }) => name);
    const key = `${violation.invariant} ${violation.message}`;
    const known = this.found.get(key) ?? [];
    this.found.set(key, known);
    if (!known.some((other) => isPart(other.triggers, triggers))) known.push({ violation, triggers });
  }

  list(): BrokenBy[] {
    return [...this.found.values()].flat();
  }
}

/** Whether `whole` contains all of `part`, in order. */
function isPart(part: readonly string[], whole: readonly string[]): boolean {
  let at = 0;
  for (const name of whole) if (name === part[at]) at += 1;
  return at === part.length;
}

export interface Violation {
  invariant: 'I1' | 'I3' | 'I6' | 'I7';
  message: string;
}

/** Every sequence of at most `most` triggers, in the named stages. */
export function triggerMatrix(stagesNamed: readonly string[], most = 2): Matrix {
  return {
    entries: ([traits]) => matrix(traits, stagesNamed, most),
    violations: (_, program, result) => violations(program, result),
    findingOf,
  };
}

/**
 * The finding (lab/findings/) that explains why Linux breaks this invariant after these triggers; null if none does.
 */
function findingOf({ invariant, message }: Violation, triggers: readonly string[]): string | null {
  const [first] = triggers;
  if (invariant === 'I6') return first === 'sleep-with-wakeup' ? '05-wake-restores-nothing.yaml' : null;
  if (triggers.length === 1 && (first === 'D1' || first === 'D2')) return '02-d1-and-d2.yaml';
  if (first !== 'sleep') return null;
  if (triggers.length > 1) return '03-lent-in-low-power.yaml';
  return message.includes('a new buffer') ? '04-born-lent-in-low-power.yaml' : null;
}

/** The invariants that the results of a matrix program break. */
function violations(program: readonly Step[], result: RunResult): Violation[] {
  const answers = new ProgramAnswers(program, result);
  const last = (op: Step['op'], as?: string) => answers.of(op, as).at(-1);
  const mmapReads = answers.of('mmap-read');
  const found: Violation[] = [];
  const judge = (when: string, maps: boolean, usable: boolean) => {
    if (maps && !usable) found.push({ invariant: 'I1', message: `${when}: a peer maps memory that cannot be used` });
    if (!maps && usable)
      found.push({ invariant: 'I6', message: `${when}: the memory can be used, and no peer maps it` });
  };
  const isD0 = ((last('cap-read') as number) & 3) === 0;
  const maps = (as: string) => Array.isArray(last('map', as));
  // An importer that came late and was refused has nothing to map. The refusal is the answer.
  const wasLate = last('attach', 'peer') !== null;
  judge('at once', maps('lent1'), mmapReads[0] !== 'SIGBUS');
  if (!wasLate) judge('when asked', maps('lent2'), mmapReads[1] !== 'SIGBUS' && isD0);
  judge('for a new buffer', last('attach', 'other') === null, mmapReads[1] !== 'SIGBUS' && isD0);
  // A read wakes a sleeping device for its own duration. Its success promises a peer nothing.
  if (last('region-read') === 'EIO') judge('by read', maps('lent2'), false);
  return found;
}
