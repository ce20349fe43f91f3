/**
 * One part of a search on its way through a worker of a queue. The task searches for short whiles, gives away parts of
 * its part, and joins their results. A part is known by a hash of its contents: whoever splits a search at the same
 * place makes the same part.
 */
import { createHash } from 'node:crypto';
import { followedBy } from '../parallel/search-part.ts';
import type { PartOutcome, Search } from '../search/search.ts';
import { withoutStacks } from '../world/stacks.ts';

/** The result of a part, for the task that gave it away. */
export interface PartResult {
  outcome: PartOutcome;
  /** Whether everything of the part was seen. A search that draws orders never says so. */
  complete: boolean;
  ms: number;
}

/** A part that was given away. */
export interface GivenPart {
  key: string;
  state: object;
}

/** What a stopped task leaves for another to continue. */
export interface Checkpoint {
  outcome: PartOutcome;
  ms: number;
}

/** The name of a part: equal for equal parts, at whatever time a search split them off. */
export function partKey(state: object): string {
  // How much a search has seen beside a part differs from time to time, and does not change the part.
  const text = JSON.stringify(state, (name, value) => (name === 'explored' || name === 'started' ? undefined : value));
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}

export class PartTask {
  readonly key: string;
  /** How long it has searched, the parts that it gave away left out. */
  ms: number;
  private readonly search: Search;
  private readonly given = new Map<number, string>();
  private readonly before: PartOutcome | null;
  /** Whether what came before the checkpoint counts no more, since the search began anew. */
  private isAnew = false;
  private restarts: number;
  private isStopped = false;

  constructor(search: Search, key: string, state: object, checkpoint: Checkpoint | null = null) {
    this.search = search;
    this.key = key;
    this.before = checkpoint?.outcome ?? null;
    this.ms = checkpoint?.ms ?? 0;
    search.load(checkpoint?.outcome.rest ?? state);
    this.restarts = search.restarts;
  }

  /** Searches for about `ms`; returns `waits` at a part that was given away. */
  advance(ms: number): 'more' | 'done' | 'waits' {
    if (this.isStopped) return 'done';
    const start = performance.now();
    const progress = withoutStacks(() => {
      let last = this.search.advance(1);
      while (last === 'more' && performance.now() - start < ms) last = this.search.advance(1);
      return last;
    });
    this.ms += performance.now() - start;
    this.noticeRestart();
    return progress;
  }

  /** Sets a part aside; null if there is none. */
  split(): GivenPart | null {
    const part = this.search.splitPart();
    if (part === null) return null;
    const key = partKey(part.state);
    this.given.set(part.id, key);
    return { key, state: part.state };
  }

  /** The part that the task waits for, after `waits`. */
  get awaited(): string {
    return this.given.get(this.search.awaited)!;
  }

  /** Whether parts of this task may be under way. */
  get hasGiven(): boolean {
    return this.given.size > 0;
  }

  /** Takes the awaited part back, to search it here. */
  reclaim(): void {
    this.given.delete(this.search.awaited);
    this.search.reclaimPart();
  }

  join({ outcome }: PartResult): void {
    this.given.delete(this.search.awaited);
    this.search.join(outcome);
    this.isStopped = this.search.bug !== null || this.search.mustStop || this.search.complete;
    this.noticeRestart();
  }

  /** The share that is done, from 0 to 1. */
  estimate(): number {
    return this.search.estimate();
  }

  result(): PartResult {
    return { outcome: this.outcome(), complete: this.search.complete, ms: this.ms };
  }

  /** Everything so far, with the rest and the parts that were given away in it; null if nothing is left. */
  checkpoint(): Checkpoint | null {
    const outcome = this.outcome();
    return outcome.rest === null ? null : { outcome, ms: this.ms };
  }

  private noticeRestart(): void {
    if (this.search.restarts === this.restarts) return;
    this.restarts = this.search.restarts;
    this.isAnew = true;
    this.given.clear();
  }

  private outcome(): PartOutcome {
    const outcome = this.search.outcome();
    if (this.before === null) return outcome;
    if (!this.isAnew) return followedBy(this.before, outcome);
    return { ...outcome, lockEdges: [...this.before.lockEdges, ...outcome.lockEdges] };
  }
}
