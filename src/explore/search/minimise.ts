/** Makes a failing schedule easy to read: fewest preemptions first, then fewest steps. */
import type { Program } from '../world/program.ts';
import { countPreemptions } from '../world/schedule.ts';
import type { Bug } from './search.ts';
import { DfsSearch } from './walk.ts';

export interface MinimalBug extends Bug {
  preemptions: number;
  /** No schedule with fewer preemptions breaks the invariant: all of them were run. */
  isMinimal: boolean;
}

/** `budgetMs` bounds the time; the best schedule that was found by then is returned. */
export function minimise(program: Program, bug: Bug, budgetMs = 3000): MinimalBug {
  const limit = countPreemptions(program, bug.schedule);
  const end = performance.now() + budgetMs;
  let best: MinimalBug = { ...bug, preemptions: limit, isMinimal: false };
  for (let bound = 0; bound <= limit; bound++) {
    const found = shortest(program, bug, bound, end);
    if (found.bug !== null) {
      if (found.bug.schedule.length < best.schedule.length || bound < limit) {
        best = { ...found.bug, preemptions: bound, isMinimal: found.complete };
      }
      return best;
    }
    if (performance.now() > end) break;
  }
  return best;
}

/** The shortest schedule with at most `bound` preemptions that breaks the same invariant. */
function shortest(program: Program, bug: Bug, bound: number, end: number): { bug: Bug | null; complete: boolean } {
  let best: Bug | null = null;
  let search = new DfsSearch(program, bound);
  for (;;) {
    const more = search.advance(100) === 'more';
    if (search.bug !== null) {
      if (
        search.bug.invariant === bug.invariant &&
        (best === null || search.bug.schedule.length < best.schedule.length)
      ) {
        best = search.bug;
      }
      if (best === null || best.schedule.length <= 1) return { bug: best, complete: false };
      // Only shorter ones are of interest from now on.
      search = new DfsSearch(program, bound, best.schedule.length - 1);
    } else if (!more) return { bug: best, complete: true };
    if (performance.now() > end) return { bug: best, complete: false };
  }
}
