/** Lifetimes of objects, and the error for broken invariants. */
import { runtime } from './runtime.ts';
import type { Shared } from './shared.ts';

/** An invariant of docs/invariants.md does not hold: a defect of the program, never a refusal of a caller's request. */
export class InvariantError extends Error {
  /** The id of docs/invariants.md, such as `I3`, or one of your own. */
  readonly invariant: string;
  /** The subject of the message, if its history explains more: the task that made it, and the task that ended it. */
  readonly subject: object | null;

  constructor(invariant: string, message: string, subject: object | null = null) {
    super(`${invariant}: ${message}`);
    this.name = 'InvariantError';
    this.invariant = invariant;
    this.subject = subject;
  }
}

/**
 * The time in which an object may be touched. The owner calls `end` once. From then on every operation on a `Shared` of
 * this lifetime, and every `check`, fails: it would be a use of freed memory in C. Tasks that still wait at such an
 * object are woken, and fail in the same way.
 */
export class Lifetime {
  /** Names the object in messages. */
  readonly label: string;
  /** As `Shared.serial`. */
  readonly serial = runtime.serials.next++;
  private hasEnded = false;
  /** Objects of this lifetime at which tasks of the production runner are parked. */
  private parkedAt: Set<Shared> | null = null;

  constructor(label: string) {
    this.label = label;
    runtime.observer?.born(this);
  }

  /** Whether `end` was called. */
  get ended(): boolean {
    runtime.observer?.onLook(this);
    return this.hasEnded;
  }

  /** Ends the lifetime; ending it twice is the double free of invariant I3. */
  end(): void {
    runtime.observer?.onAccess(this, true);
    if (this.hasEnded) throw new InvariantError('I3', `${this.label} is freed twice`, this);
    this.hasEnded = true;
    runtime.observer?.died(this);
    for (const object of this.parkedAt ?? []) object.notify();
    this.parkedAt = null;
  }

  /** Fails with I5 when the lifetime has ended. `what` names the access, and is converted to a string only then. */
  check(what: string | { toString(): string }): void {
    runtime.observer?.onAccess(this, false);
    if (this.hasEnded) throw new InvariantError('I5', `${what} after ${this.label} was freed`, this);
  }

  /** @internal */
  parks(object: Shared): void {
    this.parkedAt ??= new Set();
    this.parkedAt.add(object);
  }
}
