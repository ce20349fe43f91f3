/**
 * Operations: the steps of a task that another task could notice. A task is a generator that yields them. The task's
 * runner (the production runner here, or the explorer) takes each one and hands its result back.
 */
import { runtime } from './runtime.ts';
import type { Shared } from './shared.ts';
import type { TaskHandle } from './task-handle.ts';

/**
 * The effect of an operation on its object. Two operations on different objects are independent, except EVALUATE; on
 * one object the kinds decide (the table is in explore/). A failed compare-and-swap and a failed trylock count as
 * reads: `Op.changed` is false after the step.
 */
export const OpKind = {
  READ: 0,
  WRITE: 1,
  /** Reads and, where `changed` says so, writes. */
  UPDATE: 2,
  LOCK: 3,
  UNLOCK: 4,
  READ_LOCK: 5,
  READ_UNLOCK: 6,
  /** A trylock for exclusive use. */
  TRY_LOCK: 7,
  TRY_READ_LOCK: 8,
  /** Waits until a guard over its object holds; reads. */
  WAIT: 9,
  SPAWN: 10,
  /** Evaluates a condition over anything: depends on every step of every other task. */
  EVALUATE: 11,
  /** Lets other tasks run first. Production only: the explorer tries every order anyway. */
  GIVE_WAY: 12,
} as const;
export type OpKind = (typeof OpKind)[keyof typeof OpKind];

export const OP_KIND_NAMES: readonly string[] = Object.keys(OpKind).map((name) =>
  name.toLowerCase().replaceAll('_', '-'),
);

/**
 * A computation that may block: a generator function, called with `yield*`. It does nothing before it is iterated. Some
 * functions choose between tasks and return one; they must not do anything else (docs/tasks.md).
 */
export interface Task<T = void> extends Iterable<Op, T, unknown> {
  /** Never present. Declared so that `await task` does not compile: write `yield* task`. */
  then?(writeYieldStarInsteadOfAwait: never): never;
  /** Never present. `barter check-tasks` recognizes tasks by it. */
  readonly mustBeIterated?: never;
}

/** The common part of all operations of one sort. `A` is the type of their argument. */
export interface Action<S extends Shared = Shared, A = unknown, T = unknown> {
  readonly kind: OpKind;
  /** Takes the step. May set `op.changed` to false if nothing changed. */
  readonly act: (object: S, argument: A, task: TaskHandle, op: { changed: boolean }) => T;
  /**
   * Whether a task could take the step now: a pure function of the object's state. Null: always. In production `isNew`
   * is true for a task that has just arrived: locks queue it behind the waiters, so that no task starves.
   */
  readonly guard: ((object: S, argument: A, isNew: boolean) => boolean) | null;
}

export function action<S extends Shared, A, T>(
  kind: OpKind,
  act: Action<S, A, T>['act'],
  guard: Action<S, A, T>['guard'] = null,
): Action<S, A, T> {
  return { kind, act, guard };
}

/** One step, and the task of exactly that step. */
export class Op<T = unknown> implements Task<T> {
  // As every task.
  declare readonly mustBeIterated?: never;
  // biome-ignore lint/suspicious/noThenProperty: a type alone, so that awaiting an operation does not compile
  declare then?: NonNullable<Task['then']>;
  /** The object that the step touches. */
  readonly object: Shared;
  /** The argument of the step, such as the value to store. */
  readonly argument: unknown;
  /** After `take`: whether the object's state changed. Kinds that always change leave it true. */
  changed = true;
  private readonly action: Action<Shared, unknown, T>;

  constructor(action: Action<never, never, unknown>, object: Shared, argument: unknown = undefined) {
    this.action = action as Action<Shared, unknown, T>;
    this.object = object;
    this.argument = argument;
  }

  /** The kind of step. */
  get kind(): OpKind {
    return this.action.kind;
  }

  /**
   * The one execution path. Production takes the step at once if it can, and yields it only to wait. The explorer sees
   * every step.
   */
  [Symbol.iterator](): Iterator<Op, T, unknown> {
    if (!runtime.observed) {
      const { guard } = this.action;
      if (guard === null || guard(this.object, this.argument, true) || this.isRefused) {
        return finished(this.take(runtime.current ?? runtime.outside!));
      }
    } else if (this.action.kind === OpKind.GIVE_WAY) return finished(undefined as T);
    return new OpIterator(this);
  }

  /** Whether a task could take this step now. */
  ready(isNew = false): boolean {
    const { guard } = this.action;
    return guard === null || guard(this.object, this.argument, isNew);
  }

  /** The object is dead: `take` throws, and tasks do not wait for it. */
  get isRefused(): boolean {
    return this.object.lifetime?.ended ?? false;
  }

  /** Takes the step. Called when `ready` or `isRefused`. The result becomes the value of the task's `yield*`. */
  take(task: TaskHandle): T {
    const { object, action } = this;
    if (object.lifetime !== null) object.lifetime.check(this);
    return action.act(object, this.argument, task, this);
  }

  toString(): string {
    return `${OP_KIND_NAMES[this.kind]} ${this.object.label}`;
  }
}

/** Yields the step to the task's runner, and returns the runner's result. */
class OpIterator<T> implements Iterator<Op, T, unknown> {
  private op: Op<T> | null;

  constructor(op: Op<T>) {
    this.op = op;
  }

  next(value: unknown): IteratorResult<Op, T> {
    const op = this.op;
    if (op === null) return { done: true, value: value as T };
    this.op = null;
    runtime.tracer?.(op);
    return { done: false, value: op };
  }

  /** The step failed. */
  throw(error: unknown): never {
    throw error;
  }
}

/** A task that has finished: its own iterator, and its own result. */
class Finished<T> implements Task<T>, Iterator<Op, T, unknown> {
  readonly done = true;
  readonly value: T;

  constructor(value: T) {
    this.value = value;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorReturnResult<T> {
    return this;
  }
}

const FINISHED = new Finished<unknown>(undefined);
const FINISHED_TRUE = new Finished<unknown>(true);
const FINISHED_FALSE = new Finished<unknown>(false);

function finished<T>(value: T): Finished<T> {
  if (value === undefined) return FINISHED as Finished<T>;
  if (value === true) return FINISHED_TRUE as Finished<T>;
  if (value === false) return FINISHED_FALSE as Finished<T>;
  return new Finished(value);
}

/** A task that does and returns nothing. */
export const DONE = FINISHED as Task<void>;

/** A task that only returns `value`. */
export function done<T>(value: T): Task<T> {
  return finished(value);
}
