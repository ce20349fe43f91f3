/**
 * The objects that each invariant of a program looks at (`Stage.afterEach`). An execution records each look. Steps that
 * change two objects of one scope must keep their order, like steps on one object. Otherwise a search that leaves out
 * equivalent orders would also leave out states that the invariant must see.
 */

/** Scopes beyond this number share the last bit, which is sound but coarser. */
const MAX_BITS = 31;
const MAX_CHECKS = 1024;

/** A scope is a check, or a part of a check that is about one object. */
export type Scope = number;

export function scopeOf(check: number, about = -1): Scope {
  return Math.min(check, MAX_CHECKS - 1) + (about + 1) * MAX_CHECKS;
}

/** The check of a scope, and the serial number of the object that the scope is about, or -1. */
export function insideOf(scope: Scope): [check: number, about: number] {
  return [scope % MAX_CHECKS, Math.floor(scope / MAX_CHECKS) - 1];
}

/** A scope, and the serial number of an object in it. */
export type ScopeEntry = readonly [scope: Scope, serial: number];

/** All looks that a search's executions have shown so far. A scope that grows makes the search restart. */
export class InvariantScopes {
  private readonly bits = new Map<Scope, number>();
  /** For each serial number: one bit for each scope that contains the object. */
  private readonly masks = new Map<number, number>();
  private readonly looks: ScopeEntry[] = [];
  /** How many looks the search knew when it began. */
  private known = 0;

  /** Looks that were new since then. */
  get grown(): readonly ScopeEntry[] {
    return this.looks.length === this.known ? NONE : this.looks.slice(this.known);
  }

  /** All looks, in the order in which they came: `load` gives the scopes the same bits again. */
  get all(): readonly ScopeEntry[] {
    return this.looks;
  }

  /** One bit for each scope that contains the object. */
  maskOf(serial: number): number {
    return this.masks.get(serial) ?? 0;
  }

  add(scope: Scope, serial: number): void {
    let bit = this.bits.get(scope);
    if (bit === undefined) {
      bit = 1 << Math.min(this.bits.size, MAX_BITS - 1);
      this.bits.set(scope, bit);
    } else if ((this.maskOf(serial) & bit) !== 0) return;
    this.masks.set(serial, this.maskOf(serial) | bit);
    this.looks.push([scope, serial]);
  }

  /** Marks everything seen so far as known. */
  settle(): void {
    this.known = this.looks.length;
  }

  /** Replaces all known looks. */
  load(looks: readonly ScopeEntry[]): void {
    this.bits.clear();
    this.masks.clear();
    this.looks.length = 0;
    for (const [scope, serial] of looks) this.add(scope, serial);
    this.settle();
  }
}

const NONE: readonly ScopeEntry[] = [];
