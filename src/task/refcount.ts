/** refcount_t. */
import { InvariantError, type Lifetime } from './lifetime.ts';
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';

/** refcount_t: does not saturate, but throws where the kernel would warn. */
export class Refcount extends Shared {
  private current: number;

  constructor(label: string, value = 1, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.current = value;
  }

  /** For reading; only the operations change it. */
  get value(): number {
    runtime.observer?.onLook(this);
    this.touch();
    return this.current;
  }

  /** refcount_inc: the caller already holds a reference. */
  get(): Task<void> {
    return new Op<void>(GET, this);
  }

  /** refcount_inc_not_zero: false when the last reference is already gone. */
  tryGet(): Task<boolean> {
    return new Op<boolean>(TRY_GET, this);
  }

  /** refcount_dec_and_test: true for the task that dropped the last reference. */
  put(): Task<boolean> {
    return new Op<boolean>(PUT, this);
  }

  /** Waits until the last reference is gone; its `put` ends the wait. */
  waitForZero(): Task<void> {
    return new Op<void>(WAIT_FOR_ZERO, this);
  }

  /** refcount_set: only where no other task can hold a reference. */
  set(value: number): Task<void> {
    return new Op<void>(SET, this, value);
  }

  override snapshot(): unknown {
    return this.current;
  }

  override restore(snapshot: unknown): void {
    this.current = snapshot as number;
  }

  override describe(): string {
    return String(this.current);
  }
}

/** A count as its actions see it. */
type Inside = Shared & { current: number };

const GET = action<Inside, unknown, void>(OpKind.UPDATE, (count) => {
  if (count.current === 0) throw new InvariantError('I3', `${count.label} is taken after it reached zero`, count);
  count.current += 1;
});

const TRY_GET = action<Inside, unknown, boolean>(OpKind.UPDATE, (count, _, __, op) => {
  op.changed = count.current > 0;
  if (op.changed) count.current += 1;
  return op.changed;
});

const PUT = action<Inside, unknown, boolean>(OpKind.UPDATE, (count) => {
  if (count.current === 0) throw new InvariantError('I3', `${count.label} is put more often than it was taken`, count);
  count.current -= 1;
  count.notify();
  return count.current === 0;
});

const SET = action<Inside, number, void>(OpKind.UPDATE, (count, value) => {
  count.current = value;
  count.notify();
});

const WAIT_FOR_ZERO = action<Inside, unknown, void>(
  OpKind.WAIT,
  () => {},
  (count) => count.current === 0,
);
