/** Programs that never leave their one task waiting: what would wait is started as a task of its own, or left out. */
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
 * A revoke that waits for a fence, or for an importer that keeps its mapping, would block the only task that there is:
 * it is started, so that both sides say that it waits, and joined at the end, when what it waits for has come. Steps
 * that wait behind it and cannot be started are left out.
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

/** Lets everything go on that waits, and asks what became of it. */
function ending(program: readonly Step[]): Step[] {
  return [
    ...program.flatMap((step): Step[] => (step.op === 'add-fence' ? [{ op: 'signal-fence', fence: step.as }] : [])),
    ...program.flatMap((step): Step[] => (step.op === 'map' ? [{ op: 'unmap', map: step.as }] : [])),
    ...program.flatMap((step): Step[] => (step.op === 'start' ? [{ op: 'join', of: step.as }] : [])),
  ];
}
