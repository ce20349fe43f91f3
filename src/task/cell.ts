/** Shared state outside of locks: cells, completions, reference counts. */
import {
  DONE,
  DONE_FALSE,
  DONE_TRUE,
  done,
  InvariantError,
  type Lifetime,
  Op,
  OpKind,
  runtime,
  Shared,
  step,
  type Task,
} from './op.ts';

class CellOp<S extends Shared, R> extends Op<R> {
  private readonly act: (object: S, op: Op) => R;
  private readonly guard: ((object: S) => boolean) | null;

  constructor(kind: OpKind, object: S, act: (object: S, op: Op) => R, guard: ((object: S) => boolean) | null = null) {
    super(kind, object);
    this.act = act;
    this.guard = guard;
  }

  override ready(): boolean {
    return this.guard === null || this.guard(this.object as S);
  }

  perform(): R {
    return this.act(this.object as S, this);
  }
}

/**
 * A field that tasks read or write without a common lock (READ_ONCE, WRITE_ONCE, cmpxchg). Making a field a cell is
 * what lets the explorer see its races. `value` is for where a lock, or something else, keeps others away: the explorer
 * finds out where nothing does.
 */
export class Cell<T> extends Shared {
  private current: T;

  constructor(label: string, value: T, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.current = value;
  }

  get value(): T {
    runtime.observer?.onAccess(this, false);
    return this.current;
  }

  load(): Task<T> {
    if (!runtime.observed) {
      this.lifetime?.check(`read ${this.label}`);
      return done(this.current);
    }
    return step(new CellOp(OpKind.READ, this, (cell: Cell<T>) => cell.current));
  }

  /** Reads, and lets `body` work with the value before anybody can change it. It must not throw. */
  loadFor<R>(body: (value: T) => R): Task<R> {
    if (!runtime.observed) return done(body(this.current));
    return step(new CellOp(OpKind.READ, this, (cell: Cell<T>) => body(cell.current)));
  }

  store(value: T): Task<void> {
    if (!runtime.observed) {
      this.lifetime?.check(`write ${this.label}`);
      this.current = value;
      this.notify();
      return DONE;
    }
    return step(
      new CellOp(OpKind.WRITE, this, (cell: Cell<T>) => {
        cell.current = value;
        cell.notify();
      }),
    );
  }

  /** Lets `body` change the value in place, as one step. It must not throw. */
  changeFor<R>(body: (value: T) => R): Task<R> {
    if (!runtime.observed) {
      this.lifetime?.check(`change ${this.label}`);
      return done(this.changeNow(body));
    }
    return step(new CellOp(OpKind.WRITE, this, (cell: Cell<T>) => cell.changeNow(body)));
  }

  /** Stores `next` if the value is `expected`; returns whether it did. */
  compareExchange(expected: T, next: T): Task<boolean> {
    return this.update((value) => (value === expected ? next : value));
  }

  /** Replaces the value by `change(value)` in one step; returns whether it differs. */
  update(change: (value: T) => T): Task<boolean> {
    if (!runtime.observed) {
      this.lifetime?.check(`update ${this.label}`);
      return this.updateNow(change) ? DONE_TRUE : DONE_FALSE;
    }
    return step(
      new CellOp(OpKind.UPDATE, this, (cell: Cell<T>, op) => {
        op.changed = cell.updateNow(change);
        return op.changed;
      }),
    );
  }

  /** Waits until `guard(value)` holds. Ended by whoever stores such a value. */
  waitUntil(guard: (value: T) => boolean): Task<void> {
    if (!runtime.observed && guard(this.current)) return DONE;
    return step(
      new CellOp<Cell<T>, void>(
        OpKind.WAIT,
        this,
        () => {},
        (cell) => guard(cell.current),
      ),
    );
  }

  override snapshot(): unknown {
    return this.current;
  }

  override restore(snapshot: unknown): void {
    this.current = snapshot as T;
  }

  override describe(): string {
    return String(this.current);
  }

  private changeNow<R>(body: (value: T) => R): R {
    const result = body(this.current);
    this.notify();
    return result;
  }

  private updateNow(change: (value: T) => T): boolean {
    const next = change(this.current);
    if (next === this.current) return false;
    this.current = next;
    this.notify();
    return true;
  }
}

/** struct completion, with complete_all: once done, everybody passes until it is made anew. */
export class Completion extends Shared {
  private done: boolean;

  constructor(label: string, isDone = false) {
    super(label);
    this.done = isDone;
  }

  /** For where something keeps those away who complete it; `test` is for everywhere else. */
  get isDone(): boolean {
    runtime.observer?.onAccess(this, false);
    return this.done;
  }

  /** try_wait_for_completion, without taking anything: whether it is done. */
  test(): Task<boolean> {
    if (!runtime.observed) return this.done ? DONE_TRUE : DONE_FALSE;
    return step(new CellOp(OpKind.READ, this, (c: Completion) => c.done));
  }

  /** Waits for `complete`. */
  wait(): Task<void> {
    if (!runtime.observed && this.done) return DONE;
    return step(
      new CellOp<Completion, void>(
        OpKind.WAIT,
        this,
        () => {},
        (c) => c.done,
      ),
    );
  }

  /** Waits for `complete`, or for a `notify` after `isOver` turned true: for those whose time may run out. */
  waitUnless(isOver: () => boolean): Task<void> {
    if (!runtime.observed && (this.done || isOver())) return DONE;
    return step(
      new CellOp<Completion, void>(
        OpKind.WAIT,
        this,
        () => {},
        (c) => c.done || isOver(),
      ),
    );
  }

  complete(): Task<void> {
    return this.set(true);
  }

  /** reinit_completion: only while nobody waits. */
  reinit(): Task<void> {
    return this.set(false);
  }

  override snapshot(): unknown {
    return this.done;
  }

  override restore(snapshot: unknown): void {
    this.done = snapshot as boolean;
  }

  override describe(): string {
    return this.done ? 'done' : 'not done';
  }

  private set(isDone: boolean): Task<void> {
    if (!runtime.observed) {
      this.setNow(isDone);
      return DONE;
    }
    return step(new CellOp(OpKind.WRITE, this, (c: Completion) => c.setNow(isDone)));
  }

  private setNow(isDone: boolean): void {
    this.done = isDone;
    if (isDone) this.notify();
  }
}

/** refcount_t: saturates at neither end, but fails loudly where the kernel would warn. */
export class Refcount extends Shared {
  value: number;

  constructor(label: string, value = 1, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.value = value;
  }

  /** refcount_inc: the caller already holds a reference. */
  get(): Task<void> {
    return this.change((count) => {
      if (count.value === 0) throw new InvariantError('I3', `${count.label} is taken after it reached zero`, count);
      count.value += 1;
    });
  }

  /** refcount_inc_not_zero: false when the last reference is already gone. */
  tryGet(): Task<boolean> {
    if (!runtime.observed) return this.tryGetNow() ? DONE_TRUE : DONE_FALSE;
    return step(
      new CellOp(OpKind.UPDATE, this, (count: Refcount, op) => {
        op.changed = count.tryGetNow();
        return op.changed;
      }),
    );
  }

  /** refcount_dec_and_test: true for the one who dropped the last reference. */
  put(): Task<boolean> {
    if (!runtime.observed) return this.putNow() ? DONE_TRUE : DONE_FALSE;
    return step(new CellOp(OpKind.UPDATE, this, (count: Refcount) => count.putNow()));
  }

  /** Waits until the last reference is gone; ended by the `put` of it. */
  waitForZero(): Task<void> {
    if (!runtime.observed && this.value === 0) return DONE;
    return step(
      new CellOp<Refcount, void>(
        OpKind.WAIT,
        this,
        () => {},
        (count) => count.value === 0,
      ),
    );
  }

  /** refcount_set: only where nobody else can hold a reference. */
  set(value: number): Task<void> {
    return this.change((count) => {
      count.value = value;
    });
  }

  override snapshot(): unknown {
    return this.value;
  }

  override restore(snapshot: unknown): void {
    this.value = snapshot as typeof this.value;
  }

  override describe(): string {
    return String(this.value);
  }

  private tryGetNow(): boolean {
    if (this.value === 0) return false;
    this.value += 1;
    return true;
  }

  private putNow(): boolean {
    if (this.value === 0) throw new InvariantError('I3', `${this.label} is put more often than it was taken`, this);
    this.value -= 1;
    this.notify();
    return this.value === 0;
  }

  private change(act: (count: Refcount) => void): Task<void> {
    if (!runtime.observed) {
      this.lifetime?.check(`change ${this.label}`);
      act(this);
      return DONE;
    }
    return step(new CellOp(OpKind.UPDATE, this, act));
  }
}

/**
 * wait_queue_head: for a condition over state that is not a cell. Whoever makes the condition true must `wake`
 * afterwards; the condition may only change under the rules of that state's own lock.
 */
export class WaitQueue extends Shared {
  /** wait_event: waits until `condition` holds. Ended by a `wake` after it does. */
  waitUntil(condition: () => boolean): Task<void> {
    if (!runtime.observed && condition()) return DONE;
    return step(new CellOp<WaitQueue, void>(OpKind.WAIT, this, () => {}, condition));
  }

  /** wake_up_all. */
  wake(): Task<void> {
    if (!runtime.observed) {
      this.notify();
      return DONE;
    }
    return step(new CellOp(OpKind.WRITE, this, (queue: WaitQueue) => queue.notify()));
  }
}
