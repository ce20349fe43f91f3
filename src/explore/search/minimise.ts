/** Makes a failing schedule easy to read: fewest preemptions first, then fewest steps. */
import { checkEnd } from '../checks/oracles.ts';
import type { Execution } from '../world/execution.ts';
import type { Program } from '../world/program.ts';
import { countPreemptions } from '../world/schedule.ts';
import type { Bug } from './search.ts';
import { DfsSearch } from './walk.ts';

export interface MinimalBug extends Bug {
  preemptions: number;
  /** True if the search ran every schedule with fewer preemptions, or as many and fewer steps, and none breaks it. */
  isMinimal: boolean;
}

/** Runs with more steps are not a shorter way to show a bug. */
const MAX_LENGTH = 2_000;

/**
 * Searches every order with few preemptions for the shortest one that breaks an invariant. Ignores other invariants.
 */
class ShortestSearch extends DfsSearch {
  best: Bug | null = null;
  private readonly invariant: string;

  /** Searches only orders with fewer than `before` steps. */
  constructor(program: Program, bound: number, invariant: string, before: number) {
    super(program, bound, before - 1);
    this.invariant = invariant;
    this.maxSteps = MAX_LENGTH;
  }

  protected override ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean {
    this.totals.executions += 1;
    const finding = checkEnd(execution);
    if (length > this.maxSteps || finding === null || finding.invariant !== this.invariant) return false;
    this.best = this.bugOf(finding, execution, schedule, length);
    this.limitSteps = length - 1;
    return false;
  }
}

/** Searches for at most `budgetMs`; returns the best schedule by then. */
export function minimise(program: Program, bug: Bug, budgetMs = 3000): MinimalBug {
  const limit = countPreemptions(program, bug.schedule);
  if (bug.isEndless === true) return { ...bug, preemptions: limit, isMinimal: false };
  const end = performance.now() + budgetMs;
  for (let bound = 0; bound <= limit; bound++) {
    const before = bound < limit ? Number.POSITIVE_INFINITY : bug.schedule.length;
    const search = new ShortestSearch(program, bound, bug.invariant, before);
    while (search.advance(20) === 'more' && performance.now() < end) {}
    if (search.best !== null) return { ...search.best, preemptions: bound, isMinimal: search.complete };
    if (!search.complete) return { ...bug, preemptions: limit, isMinimal: false };
  }
  return { ...bug, preemptions: limit, isMinimal: true };
}
