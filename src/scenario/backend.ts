/** Where a scenario runs: Barter's own engine, a served device, or a real kernel. */
import { Errno } from '../abi/errno.ts';
import type { Task } from '../task/op.ts';
import type { Step, StepResult } from './step.ts';

export interface Backend {
  /** What it is, with versions where the other side tells them. */
  readonly name: string;
  /** It is Linux, or behaves as Linux does: steps that expect something else there are held to that. */
  readonly isLinux: boolean;
  /** Takes one step. Refusals of the ABI come as `errno`; anything else that is thrown is a defect. */
  perform(step: Step): Task<StepResult>;
  /** Gives everything back: descriptors, mappings, devices. */
  dispose(): Task;
}

/** The result of a step from the task that takes it. */
export function* outcome(task: Task<unknown>): Task<StepResult> {
  try {
    const value = yield* task;
    return { ok: value === undefined ? null : value };
  } catch (error) {
    return refusal(error);
  }
}

/** The refusal that an error stands for; rethrows what is none. */
export function refusal(error: unknown): StepResult {
  if (error instanceof Errno) return { errno: error.errno, message: error.message };
  if (error instanceof Error && error.name === 'BusError') return { errno: 'SIGBUS', message: error.message };
  throw error;
}
