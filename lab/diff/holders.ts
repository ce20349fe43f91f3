/**
 * The holders: a buffer in every form in which Linux lets a process hold it, across every trigger and the close of the
 * device. Whatever holds a buffer, its memory is taken back, and the driver can let go of a device that is closed.
 */
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step } from '../../src/scenario/step.ts';
import { ProgramAnswers } from './answers.ts';
import type { DeviceTraits } from './lenders.ts';
import { type Matrix, type MatrixEntry, type TriggerSteps, triggers, type Violation } from './matrix.ts';
import { prefix } from './program/program.ts';

/** A way to hold the buffer. Afterwards the descriptor `buffer` is closed. */
interface Holder {
  name: string;
  hold: Step[];
  release: Step[];
  /** An importer named `peer` is attached. */
  isImporter?: true;
}

const HELD = { op: 'hold-fd', fd: 'buffer', as: 'held' } as const;
const RELEASE: Step = { op: 'release-hold', hold: 'held' };
const ATTACH: Step = { op: 'attach', fd: 'buffer', device: 'borrower', as: 'peer' };
const MAP: Step = { op: 'map', importer: 'peer', as: 'lent' };
const DETACH: Step = { op: 'detach', importer: 'peer' };
const SYNC: Step = { op: 'export-sync-file', fd: 'buffer', flags: 3, as: 'sync' };

const WAYS_TO_HOLD: readonly Holder[] = [
  { name: 'nothing', hold: [], release: [] },
  { name: 'dup', hold: [{ op: 'dup-fd', fd: 'buffer', as: 'copy' }], release: [{ op: 'close-fd', fd: 'copy' }] },
  { name: 'importer', hold: [ATTACH], release: [DETACH], isImporter: true },
  { name: 'mapped', hold: [ATTACH, MAP], release: [DETACH], isImporter: true },
  { name: 'sync-file', hold: [SYNC], release: [{ op: 'close-fd', fd: 'sync' }] },
  ...(['fork', 'scm-rights', 'o-path', 'io-uring', 'epoll'] as const).map(
    (how): Holder => ({ name: how, hold: [{ ...HELD, how }], release: [RELEASE] }),
  ),
  {
    name: 'path-and-mapped',
    hold: [{ ...HELD, how: 'o-path' }, ATTACH, MAP],
    release: [DETACH, RELEASE],
    isImporter: true,
  },
];

/** When the holder lets go. */
const STAGES_OF_HOLDS = ['held-after-close', 'released-before-close'];

function program(traits: DeviceTraits, { hold, release, isImporter }: Holder, trigger: Step[], stage: string): Step[] {
  const { name: device, region } = traits;
  const isHeld = stage === STAGES_OF_HOLDS[0];
  const asked: Step[] = isImporter === true ? [{ op: 'callbacks', importer: 'peer' }] : [];
  return [
    ...prefix(traits),
    { op: 'export', device, region, ranges: [[0, 4096]], as: 'buffer' },
    ...hold,
    { op: 'close-fd', fd: 'buffer' },
    ...trigger,
    ...asked,
    ...(isHeld ? [] : release),
    // A revoke and a restore go through the device's list, which may still have the buffer.
    { op: 'memory', device, on: false },
    { op: 'memory', device, on: true },
    { op: 'close', device },
    ...(isHeld ? asked : []),
    { op: 'start', step: { op: 'sysfs-unbind', device }, as: 'unbinding' },
    ...(isHeld ? release : []),
    { op: 'join', of: 'unbinding' },
    { op: 'sysfs-bind', device },
    { op: 'open', device },
  ];
}

/** Triggers that leave the device open once, so that one close ends its use. */
function chosen(traits: DeviceTraits): TriggerSteps[] {
  return triggers(traits).filter(({ name }) => name !== 'open');
}

function entries([traits]: readonly DeviceTraits[]): MatrixEntry[] {
  return STAGES_OF_HOLDS.flatMap((stage) =>
    WAYS_TO_HOLD.flatMap((holder) =>
      [{ name: 'close', steps: [] }, ...chosen(traits)].map((trigger) => ({
        stage,
        sequence: [{ name: holder.name, steps: holder.hold }, trigger],
        program: program(traits, holder, trigger.steps, stage),
      })),
    ),
  );
}

function violations(_: MatrixEntry, steps: readonly Step[], result: RunResult): Violation[] {
  const answers = new ProgramAnswers(steps, result);
  const found: Violation[] = [];
  if (answers.of('start').at(-1) !== 'ended') {
    found.push({ invariant: 'I7', message: 'the device is closed, and a holder of its buffer keeps the driver bound' });
  }
  if (answers.of('join').at(-1) !== null || answers.of('open').at(-1) !== null) {
    found.push({ invariant: 'I3', message: 'nobody holds the buffer, and the driver does not let go' });
  }
  return found;
}

function findingOf({ invariant }: Violation, [holder]: readonly string[]): string | null {
  return invariant === 'I7' && holder === 'o-path' ? '14-a-path-outlives-the-file.yaml' : null;
}

export const HOLDERS: Matrix = { entries, violations, findingOf };
