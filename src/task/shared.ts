/** What two tasks can meet at. */
import type { Lifetime } from './lifetime.ts';
import { runtime } from './runtime.ts';
import type { TaskHandle } from './task-handle.ts';

/** Anything that two tasks can meet at: a lock, a cell, a completion, a task's own end. */
export class Shared {
  // Declared, and assigned below: V8 defines the fields of a class with many subclasses slowly.
  /** Shown in timelines and errors; the kernel's name where there is one. */
  declare readonly label: string;
  /** The thing that this is a field of, when it can die before its users do: touching a field of the dead is I5. */
  declare readonly lifetime: Lifetime | null;
  /**
   * Counts what its creator made: the same object has the same number in every run of a program, whatever the order of
   * the tasks, because each task counts for itself under the explorer.
   */
  declare readonly serial: number;
  /** Tasks parked on this object by the production runner, first come first served. */
  declare waiters: TaskHandle[] | null;

  constructor(label: string, lifetime: Lifetime | null = null) {
    this.label = label;
    this.lifetime = lifetime;
    this.serial = runtime.serials.next++;
    this.waiters = null;
  }

  /** Called after each change of state: parked tasks look at their guards again. */
  notify(): void {
    const waiters = this.waiters;
    if (waiters === null) return;
    this.waiters = null;
    for (const task of waiters) task.wake();
  }

  /** The state in a word or two, for timelines. */
  describe(): string {
    return '';
  }

  /** The state that guards look at; undefined where guards look elsewhere. */
  snapshot(): unknown {
    return undefined;
  }

  /** Puts back what `snapshot` returned, to ask a guard what it would have said. Only the explorer calls it. */
  restore(_snapshot: unknown): void {}

  /** For accesses that are not steps: fails with I5 once the lifetime has ended. */
  protected touch(): void {
    if (this.lifetime !== null) this.lifetime.check(this.label);
  }
}
