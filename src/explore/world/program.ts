/** What the explorer explores: a function that makes fresh objects and tasks, the same each time. */
import type { Task } from '../../task/op.ts';
import type { TaskHandle } from '../../task/task-handle.ts';

/** Runs a part of a check by itself; `about` is the object that the part is about, the same in every execution. */
export type CheckPart = (about: { readonly serial: number }, check: () => void) => void;

/** Given to a program's `build`; the explorer's execution implements it. */
export interface Stage {
  /** Starts a task with the others, before any of them has taken a step. */
  spawn<T>(label: string, task: Task<T>): TaskHandle<T>;
  /** Called once after each run in which every task ended; throws InvariantError where something does not hold. */
  atEnd(check: () => void): void;
  /**
   * Called before the first step and after each; throws InvariantError where something does not hold. Must not take
   * steps. The search watches which objects of task/ the check looks at, and tries every order of the steps that change
   * any of them. It does not see variables of other kinds: keep those in a `Plain` or a `Cell`. A check over many
   * objects that do not concern each other runs `part` for each: fewer steps must keep their order then.
   */
  afterEach(check: (part: CheckPart) => void): void;
  /**
   * Says that states can be compared, which `stateful` searches need, and gives what the tasks share beside the objects
   * of task/: values that compare by what they say (no functions, no objects of classes). The promise: what a task does
   * follows from the results of its steps, except for reads of these values that show at once in what it does next.
   */
  comparesBy(shared: () => readonly unknown[]): void;
}

export interface Program {
  /** As the command line has it: `lastzero:10`, `revoke-vs-map`. */
  readonly name: string;
  readonly summary: string;
  build(stage: Stage): void;
}

/** A program that takes a size, by its name without the size. */
export interface ProgramFamily {
  readonly name: string;
  readonly summary: string;
  /** The smallest and the largest size, and the one that is meant where none is given. */
  readonly sizes: { min: number; max: number; usual: number } | null;
  /** Kept out of `--mutants` and the list of the product's own scenarios. */
  readonly isClassic: boolean;
  make(size: number): Program;
}
