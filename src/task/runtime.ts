/** The state of this thread that tasks and shared objects read: the running task, and the observers. */
import type { Lifetime } from './lifetime.ts';
import type { Op } from './op.ts';
import type { TaskHandle } from './task-handle.ts';

/** An object that tasks can touch without a step: a `Plain`, a `Cell` by its value, a `Lifetime`. */
export interface Touchable {
  readonly label: string;
  /** As `Shared.serial`. */
  readonly serial: number;
}

/**
 * Hears of births and deaths of objects, for the explorer's search for leaks, and of touches that are not steps. Such
 * touches are of fields that a lock should guard, and of objects that can die; a death counts as a change.
 */
export interface AccessObserver {
  born(lifetime: Lifetime): void;
  died(lifetime: Lifetime): void;
  onAccess(what: Touchable, isChange: boolean): void;
  /** A look at an object's state. It does not count as a step or touch: only invariants need it. */
  onLook(what: Touchable): void;
}

/** One for each thread. The explorer's world sets all of it; production sets only `current`. */
export const runtime: {
  /** If set, tasks yield every visible operation. Otherwise they take an operation at once if they can. */
  observed: boolean;
  current: TaskHandle | null;
  /** Owns the locks that are taken outside of any task. Set by task-handle.ts when it is loaded. */
  outside: TaskHandle | null;
  observer: AccessObserver | null;
  /** The next `Shared.serial`. */
  serials: { next: number };
  /** Called in the task's own stack when it reaches a visible step, for observers that need the source line. */
  tracer: ((op: Op) => void) | null;
} = {
  observed: false,
  current: null,
  outside: null,
  observer: null,
  serials: { next: 0 },
  tracer: null,
};

/** Runs `action` hidden from the explorer. `action` must do the same in every run. */
export function unobserved<T>(action: () => T): T {
  const before = runtime.observed;
  runtime.observed = false;
  try {
    return action();
  } finally {
    runtime.observed = before;
  }
}
