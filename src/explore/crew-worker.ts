/** A thread of a crew: goes through the parts of a search that it is sent, and says what came of them. */
import { parentPort, workerData } from 'node:worker_threads';
import { findProgram, loadPrograms } from './programs.ts';
import type { Outcome, Part, Search } from './search.ts';
import { applyMutantOf, makeSearch, type SearchSpec } from './spec.ts';

/** What came of the part of that number. */
export interface Done {
  id: number;
  outcome: Outcome;
  ms: number;
}

/** A part that takes longer is handed back with what is left of it. */
const PART_MS = 25;
/** So often at least a thread says what it has. */
const REPORT_MS = 5;

/** Goes through a part, or some of it. */
export function searchPart(search: Search, part: Part): Done {
  const start = performance.now();
  search.load(part.state);
  do {
    if (search.advance(1) !== 'more') break;
  } while (performance.now() - start < PART_MS);
  return { id: part.id, outcome: search.outcome(), ms: performance.now() - start };
}

async function work(spec: SearchSpec): Promise<void> {
  await loadPrograms(spec.scenario);
  applyMutantOf(spec);
  const search = makeSearch(findProgram(spec.scenario), spec);
  parentPort!.on('message', (parts: Part[]) => {
    let done: Done[] = [];
    let reported = performance.now();
    for (const [i, part] of parts.entries()) {
      done.push(searchPart(search, part));
      if (i < parts.length - 1 && performance.now() - reported < REPORT_MS) continue;
      parentPort!.postMessage(done);
      reported = performance.now();
      done = [];
    }
  });
  parentPort!.postMessage([]);
}

if (parentPort !== null && (workerData as { crew?: true } | null)?.crew === true) {
  await work((workerData as { spec: SearchSpec }).spec);
}
