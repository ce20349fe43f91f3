/** Finds one run that shows every edge of a cycle in the lock order. A cycle's edges may come from different runs. */

import type { Bug } from '../search/search.ts';
import { DfsSearch } from '../search/walk.ts';
import type { Execution } from '../world/execution.ts';
import type { Program } from '../world/program.ts';
import type { LockOrder } from './lock-order.ts';

/** The most runs to search. With few preemptions tasks run one after the other, so one run tends to have all edges. */
const MAX_RUNS = 2000;

class WitnessSearch extends DfsSearch {
  protected override newExecution(): Execution {
    this.lockOrder.clear();
    return super.newExecution();
  }

  protected override ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean {
    this.totals.executions += 1;
    const message = execution.finding === null ? this.lockOrder.cycle() : null;
    if (message === null) return false;
    this.bug = this.bugOf({ invariant: 'I4', message }, execution, schedule, length);
    return true;
  }
}

/** The finding for the lock order that a search has collected; null if it has no cycle. */
export function lockCycleBug(program: Program, order: LockOrder): Bug | null {
  const message = order.cycle();
  if (message === null) return null;
  for (const bound of [0, 1, 2]) {
    const search = new WitnessSearch(program, bound);
    search.advance(MAX_RUNS);
    if (search.bug !== null) return search.bug;
  }
  return { invariant: 'I4', message, schedule: [] };
}
