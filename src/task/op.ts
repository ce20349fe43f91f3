/**
 * Operations: the steps of a task that another task could notice. A task is a generator that yields them; whoever runs
 * the task (the production runner here, the explorer above) performs each one and hands its result back.
 */
import type { TaskHandle } from './runner.ts';

/**
 * What an operation does to its object. Two operations on different objects never depend on each other; on one object
 * the kinds decide (explore/ holds that table). A compare-and-swap that fails and a trylock that fails count as reads:
 * `Op.changed` says after the step which it was.
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
} as const;
export type OpKind = (typeof OpKind)[keyof typeof OpKind];

export const OP_KIND_NAMES: readonly string[] = Object.keys(OpKind).map((name) =>
  name.toLowerCase().replaceAll('_', '-'),
);

/** Anything that two tasks can meet at: a lock, a cell, a completion, a task's own end. */
export class Shared {
  // Declared, and assigned below: V8 defines the fields of a class with many subclasses slowly.
  /** Shown in timelines and errors; the kernel's name where there is one. */
  declare readonly label: string;
  /** The thing that this is a field of, when it can die before its users do: touching a field of the dead is I5. */
  declare readonly lifetime: Lifetime | null;
  /**
   * Counts what its creator made: the same object has the same number in every run of a program, whatever the order of
   * the tasks, because each task counts for itself under the explorer.
   */
  declare readonly serial: number;
  /** Tasks parked on this object by the production runner, first come first served. */
  declare waiters: TaskHandle[] | null;

  constructor(label: string, lifetime: Lifetime | null = null) {
    this.label = label;
    this.lifetime = lifetime;
    this.serial = runtime.serials.next++;
    this.waiters = null;
  }

  /** Called after each change of state: parked tasks look at their guards again. */
  notify(): void {
    const waiters = this.waiters;
    if (waiters === null) return;
    this.waiters = null;
    for (const task of waiters) task.wake();
  }

  /** The state in a word or two, for timelines. */
  describe(): string {
    return '';
  }

  /** The state that guards look at; undefined where guards look elsewhere. */
  snapshot(): unknown {
    return undefined;
  }

  /** Puts back what `snapshot` returned, to ask a guard what it would have said. Only the explorer calls it. */
  restore(_snapshot: unknown): void {}
}

/** One step. Instances may be reused by their object: they carry nothing of the task that runs them. */
export abstract class Op<T = unknown> {
  readonly kind: OpKind;
  readonly object: Shared;
  /** After `perform`: whether the object's state changed. Kinds that always change leave it true. */
  changed = true;

  constructor(kind: OpKind, object: Shared) {
    this.kind = kind;
    this.object = object;
  }

  /** Whether `task` could take this step now. Must be a pure function of the object's state. */
  ready(_task: TaskHandle): boolean {
    return true;
  }

  /** Takes the step. Called only when `ready`; what it returns becomes the value of the task's `yield`. */
  abstract perform(task: TaskHandle): T;

  toString(): string {
    return `${OP_KIND_NAMES[this.kind]} ${this.object.label}`;
  }
}

/**
 * A computation that may block: written as a generator function, called with `yield*`. Functions that finish without a
 * visible step return `done(value)` instead and cost no generator. Those take effect when they are called, generators
 * when they are iterated: write `yield* lock.lock()` in one breath, inside a task, and there is no difference.
 */
export type Task<T = void> = Iterable<Op, T, unknown>;

/**
 * How long something may be touched. The owner calls `end` once; every operation on a `Shared` of this lifetime, and
 * every `check`, fails from then on, as a read of freed memory should and in C does not.
 */
export class Lifetime {
  readonly label: string;
  ended = false;

  constructor(label: string) {
    this.label = label;
    runtime.observer?.born(this);
  }

  /** Ends the lifetime; ending it twice is the double free of invariant I3. */
  end(): void {
    runtime.observer?.onAccess(this, true);
    if (this.ended) throw new InvariantError('I3', `${this.label} is freed twice`, this);
    this.ended = true;
    runtime.observer?.died(this);
  }

  /** Fails with I5 when the lifetime has ended. `what` names the access. */
  check(what: string): void {
    runtime.observer?.onAccess(this, false);
    if (this.ended) throw new InvariantError('I5', `${what} after ${this.label} was freed`, this);
  }
}

/** What can be touched without a step: a `Plain`, a `Cell` by its value, a `Lifetime`. */
export interface Touchable {
  readonly label: string;
}

/** An invariant of docs/architecture.md does not hold; a defect of the program, never an answer to a caller. */
export class InvariantError extends Error {
  readonly invariant: string;
  /** What the message is about, where its history tells more: who made it, who ended it. */
  readonly subject: object | null;

  constructor(invariant: string, message: string, subject: object | null = null) {
    super(`${invariant}: ${message}`);
    this.name = 'InvariantError';
    this.invariant = invariant;
    this.subject = subject;
  }
}

/**
 * Told of births and deaths while an explorer looks for leaks, and of touches that are no steps: of fields that a lock
 * should guard, and of things that can die, whose death counts as a change.
 */
export interface AccessObserver {
  born(lifetime: Lifetime): void;
  died(lifetime: Lifetime): void;
  onAccess(what: Touchable, isChange: boolean): void;
}

/**
 * Who is running, and whether somebody watches. While `observed` is set every visible operation is yielded; otherwise
 * those that need not wait are performed on the spot. One for each thread.
 */
export const runtime: {
  observed: boolean;
  current: TaskHandle | null;
  observer: AccessObserver | null;
  /** The next `Shared.serial` of whoever creates objects now. */
  serials: { next: number };
  /** Called when a task comes to a visible step, deep in its own stack, by those who want to know the line. */
  tracer: ((op: Op) => void) | null;
} = {
  observed: false,
  current: null,
  observer: null,
  serials: { next: 0 },
  tracer: null,
};

class Done<T> {
  private readonly result: IteratorReturnResult<T>;

  constructor(value: T) {
    this.result = { done: true, value };
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<Op, T> {
    return this.result;
  }
}

/** A task that has already finished without a visible step, and returns nothing. */
export const DONE: Task<void> = new Done<void>(undefined);
export const DONE_TRUE: Task<boolean> = new Done(true);
export const DONE_FALSE: Task<boolean> = new Done(false);

/** A task that has already finished with `value`. */
export function done<T>(value: T): Task<T> {
  return new Done(value);
}

class Step<T> {
  private op: Op<T> | null;

  constructor(op: Op<T>) {
    this.op = op;
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(value: unknown): IteratorResult<Op, T> {
    const op = this.op;
    if (op === null) return { done: true, value: value as T };
    this.op = null;
    runtime.tracer?.(op);
    return { done: false, value: op };
  }
}

/** A task of exactly one visible operation, whose result it returns. */
export function step<T>(op: Op<T>): Task<T> {
  return new Step(op);
}
