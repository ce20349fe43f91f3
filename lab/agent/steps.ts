/** Steps of a trial on the guest's kernel, and what came of them. */
import { Errno } from '../../src/abi/errno.ts';
import type { LinuxBackend } from '../../src/scenario/kernel/backend.ts';
import type { Step, StepResult } from '../../src/scenario/step.ts';
import { runner } from '../../src/task/runner.ts';
import type { PeerTrigger } from './calls.ts';
import { TRIGGERS } from './triggers.ts';

export function attempt(backend: LinuxBackend, step: Step): StepResult {
  return runner.run(backend.perform(step));
}

/** Performs a step that must succeed. */
export function perform(backend: LinuxBackend, step: Step): unknown {
  const result = attempt(backend, step);
  if ('ok' in result) return result.ok;
  throw new Error(`${JSON.stringify(step)}: ${result.errno} ${result.message}`);
}

/** Pulls a trigger; returns how many milliseconds it took. */
export function pull(backend: LinuxBackend, trigger: PeerTrigger): number {
  const began = performance.now();
  perform(backend, TRIGGERS[trigger].pull);
  return elapsedMs(began);
}

/** Milliseconds since `began`, of performance.now(), to a microsecond. */
export function elapsedMs(began: number): number {
  return Math.round((performance.now() - began) * 1000) / 1000;
}

/** 'ok', or the errno of an action. */
export function outcomeOf(action: () => void): string {
  try {
    action();
    return 'ok';
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}
