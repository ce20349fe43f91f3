/** Fields that tasks read or write without a common lock. */
import type { Lifetime } from './lifetime.ts';
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';
import { inWords } from './words.ts';

/**
 * A field that tasks read or write without a common lock (READ_ONCE, WRITE_ONCE, cmpxchg). The explorer sees the races
 * of a cell. Use `value` only where a lock, or something else, keeps other tasks away: the explorer reports any place
 * where nothing does.
 */
export class Cell<T> extends Shared {
  private current: T;
  /**
   * Counts the changes of a cell whose value can change in place; null for all others. The past state of such a value
   * is lost, so waiting tasks look at it once after each change.
   */
  private changes: number | null;

  constructor(label: string, value: T, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.current = value;
    this.changes = typeof value === 'object' ? 0 : null;
  }

  /** The value without a step. */
  get value(): T {
    runtime.observer?.onAccess(this, false);
    this.touch();
    return this.current;
  }

  /** Reads the value, as one step. */
  load(): Task<T> {
    return new Op<T>(LOAD, this);
  }

  /** Reads the value, and runs `body` on it in the same step. `body` must not throw. */
  loadFor<R>(body: (value: T) => R): Task<R> {
    return new Op<R>(LOAD_FOR, this, body);
  }

  /** Replaces the value, as one step. */
  store(value: T): Task<void> {
    return new Op<void>(STORE, this, value);
  }

  /**
   * Lets `body` change the value in place, as one step. `body` must not throw. The cell must have been made with an
   * object or null: other values cannot change in place.
   */
  changeFor<R>(body: (value: T) => R): Task<R> {
    if (this.changes === null) throw new TypeError(`${this.label} was made with a ${typeof this.current}: use update`);
    return new Op<R>(CHANGE_FOR, this, body);
  }

  /** Stores `next` if the value is `expected`; returns whether it did. */
  compareExchange(expected: T, next: T): Task<boolean> {
    return this.update((value) => (value === expected ? next : value));
  }

  /** Replaces the value by `change(value)` in one step; returns whether it differs. */
  update(change: (value: T) => T): Task<boolean> {
    return new Op<boolean>(UPDATE, this, change);
  }

  /** Waits until `guard(value)` holds. A task that stores such a value ends the wait. */
  waitUntil(guard: (value: T) => boolean): Task<void> {
    return this.changes === null ? new Op<void>(WAIT_UNTIL, this, guard) : this.lookAfterChanges(guard);
  }

  private *lookAfterChanges(guard: (value: T) => boolean): Task<void> {
    const look = new Op<number>(LOOK, this, { guard, seen: -1 });
    while ((yield* look) !== HOLDS) {}
  }

  override snapshot(): unknown {
    return this.changes === null ? this.current : [this.changes, this.current];
  }

  override restore(snapshot: unknown): void {
    if (this.changes === null) this.current = snapshot as T;
    else [this.changes, this.current] = snapshot as [number, T];
  }

  override describe(): string {
    return inWords(this.current);
  }
}

interface GuardCheck {
  readonly guard: (value: unknown) => boolean;
  /** The count of changes when the guard was last asked; -1 before. */
  seen: number;
}

/**
 * The result of a look where the guard holds. Where it does not, the result is the count of changes, so that states
 * differ by it.
 */
const HOLDS = -1;

/** A cell as its actions see it. */
type Inside = Shared & { current: unknown; changes: number | null };
type Body = (value: unknown) => unknown;

function changed(cell: Inside): void {
  if (cell.changes !== null) cell.changes += 1;
  cell.notify();
}

const LOAD = action<Inside, unknown, unknown>(OpKind.READ, (cell) => cell.current);

const LOAD_FOR = action<Inside, Body, unknown>(OpKind.READ, (cell, body) => body(cell.current));

const STORE = action<Inside, unknown, void>(OpKind.WRITE, (cell, value) => {
  cell.current = value;
  changed(cell);
});

const CHANGE_FOR = action<Inside, Body, unknown>(OpKind.WRITE, (cell, body) => {
  const result = body(cell.current);
  changed(cell);
  return result;
});

const UPDATE = action<Inside, Body, boolean>(OpKind.UPDATE, (cell, change, _, op) => {
  const next = change(cell.current);
  op.changed = next !== cell.current;
  cell.current = next;
  if (op.changed) changed(cell);
  return op.changed;
});

const WAIT_UNTIL = action<Inside, (value: unknown) => boolean, void>(
  OpKind.WAIT,
  () => {},
  (cell, guard) => guard(cell.current),
);

const LOOK = action<Inside, GuardCheck, number>(
  OpKind.WAIT,
  (cell, look) => {
    look.seen = cell.changes!;
    return look.guard(cell.current) ? HOLDS : look.seen;
  },
  (cell, look) => look.seen !== cell.changes,
);
