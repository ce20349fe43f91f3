/** struct completion. */
import type { Lifetime } from './lifetime.ts';
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';

/** struct completion, with complete_all: once done, every task passes until `reinit`. */
export class Completion extends Shared {
  /** @internal */
  done: boolean;

  constructor(label: string, isDone = false, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.done = isDone;
  }

  /** Use only where no other task can complete it at the same time; else use `test`. */
  get isDone(): boolean {
    runtime.observer?.onAccess(this, false);
    this.touch();
    return this.done;
  }

  /** Whether it is done; try_wait_for_completion, but without consuming the completion. */
  test(): Task<boolean> {
    return new Op<boolean>(TEST, this);
  }

  /** Waits for `complete`. */
  wait(): Task<void> {
    return new Op<void>(WAIT, this);
  }

  /** complete_all: every wait ends, now and later. As one step. */
  complete(): Task<void> {
    return new Op<void>(SET, this, true);
  }

  /** reinit_completion: only while no task waits. */
  reinit(): Task<void> {
    return new Op<void>(SET, this, false);
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
}

const TEST = action<Completion, unknown, boolean>(OpKind.READ, (completion) => completion.done);

const WAIT = action<Completion, unknown, void>(
  OpKind.WAIT,
  () => {},
  (completion) => completion.done,
);

const SET = action<Completion, boolean, void>(OpKind.WRITE, (completion, done) => {
  completion.done = done;
  completion.notify();
});
