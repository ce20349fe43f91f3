/** Waiting for a condition over anything: it is asked once on arrival, and once after each wake. */
import { action, Op, OpKind, type Task } from './op.ts';
import type { Shared } from './shared.ts';

/** One task's wait. */
export interface Look {
  readonly holds: () => boolean;
  /** The task may ask: it has just come, or it was woken since it asked last. */
  isAwake: boolean;
}

/** An object whose waiters are woken by hand. */
export interface Wakeable extends Shared {
  /** Those that asked in vain and were not woken since; null for none. @internal */
  sleepers: Look[] | null;
}

/** Waits at `object` until `holds` does. Ended by a wake after it does, and by nothing else. */
export function* until(object: Wakeable, holds: () => boolean): Task<void> {
  const evaluate = new Op<boolean>(EVALUATE, object, { holds, isAwake: true } satisfies Look);
  while (!(yield* evaluate)) {}
}

/** Lets those that wait at `object` ask again. */
export function wakeSleepers(object: Wakeable): void {
  for (const look of object.sleepers ?? []) look.isAwake = true;
  object.sleepers = null;
  object.notify();
}

/** The condition of a task that sleeps came true, and nobody woke the task: a lost wake-up. */
export function isLostWakeUp(op: Op): boolean {
  return op.kind === OpKind.EVALUATE && !(op.argument as Look).isAwake && (op.argument as Look).holds();
}

const EVALUATE = action<Wakeable, Look, boolean>(
  OpKind.EVALUATE,
  (object, look) => {
    look.isAwake = look.holds();
    if (look.isAwake) return true;
    object.sleepers ??= [];
    object.sleepers.push(look);
    return false;
  },
  (_, look) => look.isAwake,
);
