/** A backend that runs a scenario: Barter's own engine, a served device, or a real kernel. */
import { Errno } from '../abi/errno.ts';
import type { Task } from '../task/op.ts';
import type { ProfileName } from '../vfio/profile.ts';
import { groupOf, type Step, type StepGroup, type StepIn, type StepOf, type StepResult } from './step.ts';

export interface Backend {
  /** The backend's name, with versions if the other side tells them. */
  readonly name: string;
  /** The rules that it follows, which decide what a step is expected to give. */
  readonly rules: ProfileName;
  /** Takes one step. Returns refusals of the ABI as `errno`; any other error that it throws is a defect. */
  perform(step: Step): Task<StepResult>;
  /** Releases all descriptors, mappings and devices. */
  dispose(): Task;
}

/** Groups whose steps give a value. `join` gives another step's whole result, so `perform` handles it. */
type ValueGroup = Exclude<StepGroup, 'join'>;

/** A backend's function for the steps of each group. `world` holds everything that its steps have made. */
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

/** Returns the object that a step made under a name. EBADF where no step did. */
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
