/** A program for the explorer: a function that makes the same fresh objects and tasks each time. */
import type { Task } from '../../task/op.ts';
import type { TaskHandle } from '../../task/task-handle.ts';

/** Runs a part of a check by itself. `about` is its object, the same in every execution. */
export type CheckPart = (about: { readonly serial: number }, check: () => void) => void;

/** Looks at objects in a check, without keeping the order of the steps that change them. */
export type Glance = <T>(look: () => T) => T;

/** Given to a program's `build`; the explorer's execution implements it. */
export interface Stage {
  /** Starts a task with the others, before any of them has taken a step. */
  spawn<T>(label: string, task: Task<T>): TaskHandle<T>;
  /** Called after each run in which every task ended. Throws InvariantError for a broken rule. */
  atEnd(check: () => void): void;
  /**
   * Called before the first step, and after each step that may change what it says. Throws InvariantError for a broken
   * rule. Must not take steps. The search watches which objects of task/ the check looks at, and tries every order of
   * the steps that change any of them. A check runs again when something that it looked at has changed. It does not see
   * other variables: keep those in a `Plain` or a `Cell`. A check over many independent objects should run `part` for
   * each, so that fewer steps must keep their order. Use `glance` for a look whose order with other looks cannot matter.
   */
  afterEach(check: (part: CheckPart, glance: Glance) => void): void;
  /**
   * Declares that tasks of `spawn` are alike: if they exchange their places in an order of steps, everything happens as
   * before, to their exchanged objects. Of all orders that differ only by such exchanges, `optimal` and `source` then
   * take those in which the tasks take their first steps in the order of the list. They check the declaration on many
   * orders, and report a difference as `symmetry`.
   */
  alike(tasks: readonly TaskHandle[]): void;
  /**
   * Makes objects that are the same before each run, such as a machine with open devices. `make` runs once, and the
   * explorer puts the state of everything that its results reach back before each later run. `build` must call `keep`
   * before it changes such objects in any other way. The state must be in fields, arrays, maps, sets and typed arrays:
   * the explorer cannot put back variables of closures. `make` must not start tasks.
   */
  keep<T>(make: () => T): T;
  /**
   * Declares that states can be compared, which `stateful` searches need. `shared` returns the state that tasks share
   * beside the objects of task/, as plain values (no functions, no objects of classes). The program promises that a
   * task's actions follow from the results of its steps. Reads of these values are allowed if they show at once in its
   * next action.
   */
  comparesBy(shared: () => readonly unknown[]): void;
}

/** A program of tasks. Each run builds it anew. */
export interface Program {
  /** The name on the command line: `lastzero:10`, `revoke-vs-map`. */
  readonly name: string;
  /** One line for lists. */
  readonly summary: string;
  /** Called before each run. Makes fresh objects and tasks, the same ones each time. */
  build(stage: Stage): void;
}

/** A program that takes a size, by its name without the size. */
export interface ProgramFamily {
  readonly name: string;
  readonly summary: string;
  /** The smallest and the largest size, and the default. */
  readonly sizes: { min: number; max: number; usual: number } | null;
  /** Excluded from `--mutants` and from the list of the product's own scenarios. */
  readonly isClassic: boolean;
  make(size: number): Program;
}
