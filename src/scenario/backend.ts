/** Where a scenario runs: Barter's own engine, a served device, or a real kernel. */
import { Errno } from '../abi/errno.ts';
import type { Task } from '../task/op.ts';
import { groupOf, type Step, type StepGroup, type StepIn, type StepOf, type StepResult } from './step.ts';

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

/** Groups whose steps give a value. `join` gives another step's whole result, so `perform` handles it. */
type ValueGroup = Exclude<StepGroup, 'join'>;

/** What a backend does with the steps of each group. `world` is everything that its steps have made. */
export type StepTakers<World, Value> = { readonly [Group in ValueGroup]: (world: World, step: StepIn<Group>) => Value };

/** Takes a step by the function for its group. */
export function takeStep<World, Value>(
  world: World,
  step: Exclude<Step, StepOf<'join'>>,
  takers: StepTakers<World, Value>,
): Value {
  const taker = takers[groupOf(step) as ValueGroup] as (world: World, step: Step) => Value;
  return taker(world, step);
}

/** Makes a task of a function whose calls block the thread: the task itself never waits. */
export function asTask<World, S>(take: (world: World, step: S) => unknown): (world: World, step: S) => Task<unknown> {
  return function* (world, step) {
    return take(world, step);
  };
}

/** Returns what a step made under a name. EBADF where none did. */
export function named<T>(made: ReadonlyMap<string, T>, name: string, kind: string): T {
  const value = made.get(name);
  if (value === undefined) throw new Errno('EBADF', `there is no ${kind} ${name}`);
  return value;
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

/** The refusal that an error stands for. Rethrows any other error. */
export function refusal(error: unknown): StepResult {
  if (error instanceof Errno) return { errno: error.code, message: error.message };
  if (error instanceof Error && error.name === 'BusError') return { errno: 'SIGBUS', message: error.message };
  throw error;
}
