/** Objects that tasks share. */
import type { Lifetime } from './lifetime.ts';
import { runtime } from './runtime.ts';
import type { TaskHandle } from './task-handle.ts';

/** An object that tasks share: a lock, a cell, a completion, the end of a task. */
export class Shared {
  // Declared, and assigned below: V8 defines the fields of a class with many subclasses slowly.
  /** Shown in timelines and errors; the kernel's name where there is one. */
  declare readonly label: string;
  /**
   * The lifetime of the object that this is a field of, if it can end before its users: touching it afterwards is I5.
   */
  declare readonly lifetime: Lifetime | null;
  /**
   * The object's number among those that its creator made. The same object has the same number in every run and order
   * of tasks, because each task counts separately under the explorer.
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

  /** Called after each change of state: parked tasks check their guards again. */
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

  /** The state that guards read; undefined where guards read other state. */
  snapshot(): unknown {
    return undefined;
  }

  /** Restores the result of `snapshot`, to evaluate a guard on an earlier state. Only the explorer calls it. */
  restore(_snapshot: unknown): void {}

  /** For accesses that are not steps: fails with I5 once the lifetime has ended. */
  protected touch(): void {
    if (this.lifetime !== null) this.lifetime.check(this.label);
  }
}
