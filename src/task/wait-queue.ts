/** wait_queue_head. */
import { action, Op, OpKind, type Task } from './op.ts';
import { Shared } from './shared.ts';
import type { TaskHandle } from './task-handle.ts';

/** One task's wait. */
interface Look {
  readonly condition: () => boolean;
  /** The task may ask: it has just come, or it was woken since it asked last. */
  isAwake: boolean;
}

/**
 * wait_queue_head: for a condition over state other than a cell. The task that makes the condition true must `wake`
 * afterwards; the condition may only change under the rules of that state's own lock. A wake that was forgotten hangs
 * the waiter in production, and the explorer reports it as a lost wake-up.
 */
export class WaitQueue extends Shared {
  /** The task that woke last. */
  lastWaker: TaskHandle | null = null;
  /** Those that asked in vain and were not woken since. */
  private sleepers: Look[] = [];

  /** wait_event: waits until `condition` holds. Asks once on arrival, and once after each `wake`. */
  *waitUntil(condition: () => boolean): Task<void> {
    const ask = new Op<boolean>(ASK, this, { condition, isAwake: true } satisfies Look);
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

/** What the actions see of a queue. */
type Inside = Shared & { sleepers: Look[]; lastWaker: TaskHandle | null };

const ASK = action<Inside, Look, boolean>(
  OpKind.EVALUATE,
  (queue, look) => {
    look.isAwake = look.condition();
    if (!look.isAwake) queue.sleepers.push(look);
    return look.isAwake;
  },
  (_, look) => look.isAwake,
);

const WAKE = action<Inside, unknown, void>(OpKind.WRITE, (queue, _, waker) => {
  for (const look of queue.sleepers) look.isAwake = true;
  queue.sleepers = [];
  queue.lastWaker = waker;
  queue.notify();
});

/** The queue at which a task sleeps though its condition holds, since nobody woke it. Null for all other waits. */
export function lostWakeUp(op: Op): WaitQueue | null {
  if (op.kind !== OpKind.EVALUATE || op.ready() || !(op.argument as Look).condition()) return null;
  return op.object as WaitQueue;
}
