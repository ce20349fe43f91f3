/** One part of a search. Any thread that has the program can search it. */
import type { Part, PartOutcome, Search } from '../search/search.ts';
import type { SearchSpec } from '../spec.ts';

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
  do {
    if (search.advance(1) !== 'more') break;
  } while (performance.now() - start < PART_MS && !isOver());
  return { id: part.id, outcome: search.outcome(), ms: performance.now() - start };
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
