/** One part of a search. Any thread that has the program can search it. */
import type { Part, PartOutcome, Search } from '../search/search.ts';
import type { SearchSpec } from '../spec.ts';
import { withoutStacks } from '../world/stacks.ts';

/** The result of the part with this number. */
export interface PartDone {
  id: number;
  outcome: PartOutcome;
  ms: number;
}

export interface PoolWorkerData {
  spec: SearchSpec;
  /** `Catalogue.url`. */
  catalogue: string;
  /** One number: the part that the main thread waits for, or 0. */
  awaited: Int32Array;
}

/** A part that takes longer is returned with its unsearched rest. */
const PART_MS = 25;

/** Searches a part for a limited time, or until `isOver` returns true. */
export function searchPart(search: Search, part: Part, isOver: () => boolean): PartDone {
  const start = performance.now();
  search.load(part.state);
  withoutStacks(() => {
    while (search.advance(1) === 'more' && performance.now() - start < PART_MS && !isOver());
  });
  return { id: part.id, outcome: search.outcome(), ms: performance.now() - start };
}

/**
 * Learns how long parts take, and says when they are too small to give away. Their giver then rests, and tries again
 * after `restMs`.
 */
export class PartTimes {
  /** The average time that recent parts took. */
  averageMs: number;
  private readonly minMs: number;
  private readonly restMs: number;
  private restsUntilMs = 0;

  constructor(firstMs: number, minMs: number, restMs: number) {
    this.averageMs = firstMs;
    this.minMs = minMs;
    this.restMs = restMs;
  }

  /** Takes in the times of parts that ended together. */
  learn(times: readonly number[]): void {
    for (const ms of times) this.averageMs = 0.8 * this.averageMs + 0.2 * ms;
    if (this.averageMs >= this.minMs) return;
    this.restsUntilMs = performance.now() + this.restMs;
    this.averageMs = 2 * this.minMs;
  }

  /** Whether parts were too small to give any away for now. */
  get rests(): boolean {
    return performance.now() < this.restsUntilMs;
  }
}

/** Joins the result of a part with the result of its rest. */
export function followedBy(first: PartOutcome, rest: PartOutcome): PartOutcome {
  return {
    totals: {
      executions: first.totals.executions + rest.totals.executions,
      blocked: first.totals.blocked + rest.totals.blocked,
      steps: first.totals.steps + rest.totals.steps,
    },
    lockEdges: [...first.lockEdges, ...rest.lockEdges],
    bug: rest.bug,
    walk: first.walk,
    races: [...first.races, ...rest.races],
    rest: rest.rest,
    looks: rest.looks,
  };
}
