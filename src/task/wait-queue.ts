/** wait_queue_head. */
import { action, Op, OpKind, type Task } from './op.ts';
import { Shared } from './shared.ts';
import type { TaskHandle } from './task-handle.ts';

/** One task's wait. */
interface Sleeper {
  readonly condition: () => boolean;
  /** The task may check its condition: it has just arrived, or was woken since its last check. */
  isAwake: boolean;
}

/**
 * wait_queue_head: for a condition over state other than a cell. The task that makes the condition true must `wake`
 * afterwards. The lock of that state guards all changes of the condition. A forgotten wake hangs the waiter in
 * production; the explorer reports it as a lost wake-up.
 */
export class WaitQueue extends Shared {
  /** The task that woke last. */
  lastWaker: TaskHandle | null = null;
  /** Waits whose condition was false at the last check, and that were not woken since. */
  private sleepers: Sleeper[] = [];

  /** wait_event: waits until `condition` holds. Checks it once on arrival, and once after each `wake`. */
  *waitUntil(condition: () => boolean): Task<void> {
    const ask = new Op<boolean>(ASK, this, { condition, isAwake: true } satisfies Sleeper);
    while (!(yield* ask)) {}
  }

  /** wake_up_all. */
  wake(): Task<void> {
    return new Op<void>(WAKE, this);
  }

  override describe(): string {
    return this.sleepers.length === 0 ? 'nobody waits' : `${this.sleepers.length} waiting`;
  }
}

/** A queue as its actions see it. */
type Inside = Shared & { sleepers: Sleeper[]; lastWaker: TaskHandle | null };

const ASK = action<Inside, Sleeper, boolean>(
  OpKind.EVALUATE,
  (queue, sleeper) => {
    sleeper.isAwake = sleeper.condition();
    if (!sleeper.isAwake) queue.sleepers.push(sleeper);
    return sleeper.isAwake;
  },
  (_, sleeper) => sleeper.isAwake,
);

const WAKE = action<Inside, unknown, void>(OpKind.WRITE, (queue, _, waker) => {
  for (const sleeper of queue.sleepers) sleeper.isAwake = true;
  queue.sleepers = [];
  queue.lastWaker = waker;
  queue.notify();
});

/** The queue at which a task sleeps although its condition holds, because no task woke it. Null for all other waits. */
export function lostWakeUp(op: Op): WaitQueue | null {
  if (op.kind !== OpKind.EVALUATE || op.ready() || !(op.argument as Sleeper).condition()) return null;
  return op.object as WaitQueue;
}
