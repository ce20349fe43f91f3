/** One part of a search, done by any thread that has the program. */
import type { Part, PartOutcome, Search } from '../search/search.ts';
import type { SearchSpec } from '../spec.ts';

/** What came of the part of that number. */
export interface PartDone {
  id: number;
  outcome: PartOutcome;
  ms: number;
}

export interface PoolWorkerData {
  spec: SearchSpec;
  /** `Catalogue.url`. */
  catalogue: string;
  /** One number: the part that the thread which began the search waits for, or 0. */
  awaited: Int32Array;
}

/** A part that takes longer is handed back with what is left of it. */
const PART_MS = 25;
/** Goes through a part, or some of it: for a while, or until `isOver`. */
export function searchPart(search: Search, part: Part, isOver: () => boolean): PartDone {
  const start = performance.now();
  search.load(part.state);
  do {
    if (search.advance(1) !== 'more') break;
  } while (performance.now() - start < PART_MS && !isOver());
  return { id: part.id, outcome: search.outcome(), ms: performance.now() - start };
}
