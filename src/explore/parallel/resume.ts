/** A stopped search as a file. It continues from there and reaches the same totals. */
import type { LockEdge } from '../checks/lock-order.ts';
import type { Search, Totals } from '../search/search.ts';
import type { SearchSpec } from '../spec.ts';

/** The file that `barter explore` writes when it is stopped, and reads with `--resume`. */
export interface ResumeFile {
  /** Marks the file. */
  barter: 'resume';
  /** The program, and the way to search it. */
  spec: SearchSpec;
  /** Executions, blocked runs and steps so far. */
  totals: Totals;
  /** Seconds so far. */
  seconds: number;
  /** The orders of locks so far. */
  lockEdges: LockEdge[];
  /** The position of the search, for `restoreSearch` alone. */
  state: object;
}

export function resumeFileOf(search: Search, spec: SearchSpec, seconds: number): ResumeFile {
  const { totals, lockOrder } = search;
  return { barter: 'resume', spec, totals: { ...totals }, seconds, lockEdges: lockOrder.list(), state: search.state() };
}

/** Sets a search to the position in the file. */
export function restoreSearch(search: Search, file: ResumeFile): void {
  search.isResumed = true;
  search.load(file.state);
  Object.assign(search.totals, file.totals);
  search.lockOrder.merge(file.lockEdges);
}
