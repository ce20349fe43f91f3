/** Fields that a lock guards: an access is not a step, but the explorer finds those that forgot the lock. */
import { runtime } from './runtime.ts';

/**
 * A field, or a collection, that tasks may touch only under a lock (or where only one of them can see it). Costs one
 * comparison in production. Under the explorer two touches that nothing orders, one of them a change, are a data race.
 * Fields that are read without a lock on purpose are `Cell`s.
 */
export class Plain<T> {
  /** Shown in findings: the kernel's name of the field. */
  readonly label: string;
  /** As `Shared.serial`. */
  readonly serial = runtime.serials.next++;
  private value: T;

  constructor(label: string, value: T) {
    this.label = label;
    this.value = value;
  }

  /** The value, to look at. */
  get(): T {
    runtime.observer?.onAccess(this, false);
    return this.value;
  }

  /** The value, to change in place: `list.change().push(entry)`. */
  change(): T {
    runtime.observer?.onAccess(this, true);
    return this.value;
  }

  set(value: T): void {
    runtime.observer?.onAccess(this, true);
    this.value = value;
  }
}
