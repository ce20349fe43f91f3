/** Runs a scenario once, in production: its tasks side by side, each step with its outcome. */

import { isDeepStrictEqual } from 'node:util';
import type { Task } from '../task/op.ts';
import { BlockedError, Runner } from '../task/runner.ts';
import type { ProfileName } from '../vfio/profile.ts';
import type { Backend } from './backend.ts';
import type { Scenario, Step, StepResult } from './step.ts';

export interface RunStep {
  task: string;
  /** The step in a line, from `describeStep`. */
  op: string;
  result: StepResult;
  /** The expected result, if the step gave another. */
  expected?: unknown;
}

export interface RunResult {
  backend: string;
  steps: RunStep[];
  /** Tasks that never ended, each with the step (counted in the task from 0) and the object that it waits at. */
  blocked: { task: string; index: number; op: string; waitsFor: string }[];
}

/** A step in a line: its op, then its fields. */
export function describeStep(step: Step): string {
  if (step.op === 'start') return `start ${step.as}: ${describeStep(step.step)}`;
  const fields = Object.entries(step).filter(([key]) => !['op', 'expect', 'linux', 'next'].includes(key));
  return [step.op, ...fields.map(([key, value]) => `${key}=${format(value)}`)].join(' ');
}

/** A result in the form of expectations: the value, or the errno. */
export function given(result: StepResult): unknown {
  return 'ok' in result ? result.ok : result.errno;
}

/** The result that a step must give; undefined if it has no expectation. */
function expected({ expect, linux = expect, next = expect }: Step, rules: ProfileName): unknown {
  return rules === 'linux-7.3' ? linux : rules === 'next' ? next : expect;
}

function unmet(step: Step, result: StepResult, { rules }: Backend): { expected?: unknown } {
  const wanted = expected(step, rules);
  return wanted === undefined || isDeepStrictEqual(given(result), wanted) ? {} : { expected: wanted };
}

function format(value: unknown): string {
  if (typeof value === 'number' && value > 255) return `0x${value.toString(16)}`;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * Runs the setup, then all tasks. A task goes on after a step that was refused: the reader judges the refusal. Always
 * disposes of the backend at the end.
 */
export function runScenario(scenario: Scenario, backend: Backend): RunResult {
  const runner = new Runner();
  const result: RunResult = { backend: backend.name, steps: [], blocked: [] };
  const at = new Map<string, number>();
  let over = false;
  function* follow(task: string, steps: readonly Step[]): Task {
    for (const [index, step] of steps.entries()) {
      at.set(task, index);
      const outcome = yield* backend.perform(step);
      // The disposal may wake a waiting task; the result is complete by then.
      if (over) return;
      result.steps.push({ task, op: describeStep(step), result: outcome, ...unmet(step, outcome, backend) });
    }
  }
  runner.run(follow('setup', scenario.setup ?? []), 'setup');
  const handles = Object.entries(scenario.tasks).map(([name, steps]) => runner.spawn(name, follow(name, steps)));
  runner.drain();
  over = true;
  for (const { label: task, pending } of handles) {
    if (pending === null) continue;
    const index = at.get(task)!;
    const op = describeStep(scenario.tasks[task][index]);
    result.blocked.push({ task, index, op, waitsFor: pending.object.label });
  }
  try {
    runner.run(backend.dispose(), 'dispose');
  } catch (error) {
    if (!(error instanceof BlockedError) || result.blocked.length === 0) throw error;
  }
  return result;
}
