/** The state of this thread that tasks and the things they share look at: the running task, and the observers. */
import type { Lifetime } from './lifetime.ts';
import type { Op } from './op.ts';
import type { TaskHandle } from './task-handle.ts';

/** Tasks can touch it without a step: a `Plain`, a `Cell` by its value, a `Lifetime`. */
export interface Touchable {
  readonly label: string;
  /** As `Shared.serial`. */
  readonly serial: number;
}

/**
 * Told of births and deaths while an explorer looks for leaks, and of touches that are not steps: of fields that a lock
 * should guard, and of things that can die, whose death counts as a change.
 */
export interface AccessObserver {
  born(lifetime: Lifetime): void;
  died(lifetime: Lifetime): void;
  onAccess(what: Touchable, isChange: boolean): void;
  /** A look at the state of a thing, neither a step nor a touch: of interest to invariants alone. */
  onLook(what: Touchable): void;
}

/** One for each thread. The explorer's world sets all of it; production sets `current` alone. */
export const runtime: {
  /** Every visible operation is yielded. Otherwise an operation that can be taken at once is taken at once. */
  observed: boolean;
  current: TaskHandle | null;
  /** Owns the locks that are taken outside of any task. Set by task-handle.ts when it is loaded. */
  outside: TaskHandle | null;
  observer: AccessObserver | null;
  /** The next `Shared.serial` for objects that are made now. */
  serials: { next: number };
  /** Called when a task comes to a visible step, deep in its own stack, for those who want to know the line. */
  tracer: ((op: Op) => void) | null;
} = {
  observed: false,
  current: null,
  outside: null,
  observer: null,
  serials: { next: 0 },
  tracer: null,
};

/** Runs `action` outside of the explorer's sight. What it does must be the same in every run. */
export function unobserved<T>(action: () => T): T {
  const before = runtime.observed;
  runtime.observed = false;
  try {
    return action();
  } finally {
    runtime.observed = before;
  }
}
