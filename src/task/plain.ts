/** Fields that a lock guards: an access is not a step, but the explorer finds accesses without the lock. */
import { runtime } from './runtime.ts';

/**
 * A field, or a collection, that tasks may touch only under a lock (or while only one task can see it). Costs one
 * comparison in production. Under the explorer, two unordered touches are a data race if one is a change. Use a `Cell`
 * for a field that tasks read without a lock on purpose.
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

  /** The value, for reading. */
  get(): T {
    runtime.observer?.onAccess(this, false);
    return this.value;
  }

  /** The value, for a change in place: `list.change().push(entry)`. */
  change(): T {
    runtime.observer?.onAccess(this, true);
    return this.value;
  }

  /** Replaces the value. */
  set(value: T): void {
    runtime.observer?.onAccess(this, true);
    this.value = value;
  }
}
