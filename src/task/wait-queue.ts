/** wait_queue_head. */
import { type Look, until, wakeSleepers } from './condition.ts';
import { action, Op, OpKind, type Task } from './op.ts';
import { Shared } from './shared.ts';

/**
 * wait_queue_head: for a condition over state other than a cell. The task that makes the condition true must `wake`
 * afterwards; the condition may only change under the rules of that state's own lock. A wake that was forgotten hangs
 * the waiter in production, and the explorer reports it as a lost wake-up.
 */
export class WaitQueue extends Shared {
  /** @internal */
  sleepers: Look[] | null = null;

  /** wait_event: waits until `condition` holds. Asks once on arrival, and once after each `wake`. */
  waitUntil(condition: () => boolean): Task<void> {
    return until(this, condition);
  }

  /** wake_up_all. */
  wake(): Task<void> {
    return new Op<void>(WAKE, this);
  }

  override describe(): string {
    return this.sleepers === null ? 'nobody waits' : `${this.sleepers.length} wait`;
  }
}

const WAKE = action<WaitQueue, unknown, void>(OpKind.WRITE, wakeSleepers);
