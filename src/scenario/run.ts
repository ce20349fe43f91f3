/** Runs a scenario once, in production: its tasks beside each other, each step with its outcome. */

import type { Task } from '../task/op.ts';
import { BlockedError, Runner } from '../task/runner.ts';
import type { Backend } from './backend.ts';
import type { Scenario, Step, StepResult } from './step.ts';

export interface RunStep {
  task: string;
  /** The step in a line, as `describeStep` has it. */
  op: string;
  result: StepResult;
}

export interface RunResult {
  backend: string;
  steps: RunStep[];
  /** Tasks that never ended, and the step and object that each waits at. */
  blocked: { task: string; op: string; waitsFor: string }[];
}

/** A step in a line: its op, then its fields. */
export function describeStep(step: Step): string {
  const fields = Object.entries(step).filter(([key]) => key !== 'op');
  return [step.op, ...fields.map(([key, value]) => `${key}=${format(value)}`)].join(' ');
}

function format(value: unknown): string {
  if (typeof value === 'number' && value > 255) return `0x${value.toString(16)}`;
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/**
 * Runs the setup, then all tasks. A task takes each step whatever the one before gave: what a refusal means is for the
 * reader to say. The backend is disposed of at the end, whatever happened.
 */
export function runScenario(scenario: Scenario, backend: Backend): RunResult {
  const runner = new Runner();
  const result: RunResult = { backend: backend.name, steps: [], blocked: [] };
  const at = new Map<string, Step>();
  function* follow(task: string, steps: readonly Step[]): Task {
    for (const step of steps) {
      at.set(task, step);
      result.steps.push({ task, op: describeStep(step), result: yield* backend.perform(step) });
    }
  }
  runner.run(follow('setup', scenario.setup ?? []), 'setup');
  const handles = Object.entries(scenario.tasks).map(([name, steps]) => runner.spawn(name, follow(name, steps)));
  runner.drain();
  for (const handle of handles) {
    if (handle.pending === null) continue;
    const { label } = handle.pending.object;
    result.blocked.push({ task: handle.label, op: describeStep(at.get(handle.label)!), waitsFor: label });
  }
  try {
    runner.run(backend.dispose(), 'dispose');
  } catch (error) {
    if (!(error instanceof BlockedError) || result.blocked.length === 0) throw error;
  }
  return result;
}
