/** The same program on Barter's engine and on a kernel, result by result. */

import { buildMachine } from '../../src/machine/build.ts';
import type { MachineDescription } from '../../src/machine/schema.ts';
import { EngineBackend } from '../../src/scenario/engine.ts';
import { describeStep, type RunResult, runScenario } from '../../src/scenario/run.ts';
import type { Scenario, Step, StepResult } from '../../src/scenario/step.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

export interface Difference {
  /** The step that differs, and those before it. */
  index: number;
  op: string;
  engine: unknown;
  kernel: unknown;
}

export function programScenario(steps: readonly Step[]): Scenario {
  return { scenario: 'program', description: 'a random program', machine: 'the lender', tasks: { user: [...steps] } };
}

/** Runs a program on the engine as Linux 7.3 behaves. */
export function runOnEngine(description: MachineDescription, steps: readonly Step[]): RunResult {
  return runScenario(programScenario(steps), new EngineBackend(buildMachine(description), PROFILES['linux-7.3']));
}

/**
 * The program without the steps that would wait for ever: a revoke that waits for a fence, or for an importer that keeps
 * its mapping, blocks the only task that there is. The kernel must not be asked to do these in one thread.
 */
export function withoutBlocking(
  description: MachineDescription,
  steps: readonly Step[],
): { steps: Step[]; result: RunResult } {
  let left = [...steps];
  for (;;) {
    const result = runOnEngine(description, left);
    if (result.blocked.length === 0) return { steps: left, result };
    left = left.filter((_, i) => i !== result.blocked[0].index);
  }
}

/** The first result that differs, or null. */
export function firstDifference(steps: readonly Step[], engine: RunResult, kernel: RunResult): Difference | null {
  for (const [index, step] of steps.entries()) {
    const ours = comparable(step, engine.steps[index]?.result);
    const theirs = comparable(step, kernel.steps[index]?.result);
    if (JSON.stringify(ours) !== JSON.stringify(theirs)) {
      return { index, op: describeStep(step), engine: ours, kernel: theirs };
    }
  }
  return null;
}

/** What is compared of a result: the errno of a refusal; of values, those that mean something outside of the process. */
function comparable(step: Step, result: StepResult | undefined): unknown {
  if (result === undefined) return 'not reached';
  if (!('ok' in result)) return result.errno;
  // An export without a name gives a descriptor's number, which is each process's own.
  if (step.op === 'feature' && typeof result.ok === 'number' && result.ok > 0) return 'descriptor';
  return sorted(result.ok);
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
