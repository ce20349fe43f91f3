/** Keeps a program's only task from blocking: a step that would wait becomes a task of its own, or is left out. */
import type { MachineDescription } from '../../src/machine/schema.ts';
import type { RunResult } from '../../src/scenario/run.ts';
import type { Step, StepOf } from '../../src/scenario/step.ts';
import { runOnEngine } from './compare.ts';

const STARTABLE: ReadonlySet<Step['op']> = new Set<Step['op']>([
  'close',
  'memory',
  'power',
  'flr',
  'af-flr',
  'reset',
  'hot-reset',
  'low-power-entry',
  'low-power-exit',
  'config-write',
  'cap-write',
  'region-read',
  'region-write',
]);

/**
 * Starts each revoke that would block the only task, because it waits for a fence or for an importer that keeps its
 * mapping. Both sides then report that it waits, and the end of the program joins it. Leaves out later steps that would
 * wait behind it and cannot be started.
 */
export function withStarted(
  description: MachineDescription,
  steps: readonly Step[],
): { steps: Step[]; result: RunResult } {
  let program = [...steps];
  let ended = false;
  for (;;) {
    const result = runOnEngine(description, program);
    if (result.blocked.length > 0) {
      const { index } = result.blocked[0];
      const step = program[index];
      if (STARTABLE.has(step.op)) program[index] = started(step, index);
      else program = program.filter((_, i) => i !== index);
    } else if (!ended && program.some((step) => step.op === 'start')) {
      program.push(...ending(program));
      ended = true;
    } else return { steps: program, result };
  }
}

function started(step: Step, index: number): Step {
  return { op: 'start', step: step as StepOf<'start'>['step'], as: `started${index}` };
}

/** Lets everything that waits go on, and asks for its result. */
function ending(program: readonly Step[]): Step[] {
  return [
    ...program.flatMap((step): Step[] => (step.op === 'add-fence' ? [{ op: 'signal-fence', fence: step.as }] : [])),
    ...program.flatMap((step): Step[] => (step.op === 'map' ? [{ op: 'unmap', map: step.as }] : [])),
    ...program.flatMap((step): Step[] => (step.op === 'start' ? [{ op: 'join', of: step.as }] : [])),
  ];
}
