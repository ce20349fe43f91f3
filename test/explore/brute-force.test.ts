import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import { DfsSearch } from '../../src/explore/search/walk.ts';
import type { Execution } from '../../src/explore/world/execution.ts';
import type { RandomProgram } from './random-program.ts';
import { randomProgram } from './random-program.ts';

const PROGRAMS = 2000;
/** Programs with more orders than this are left out: brute force takes too long for them. */
const MAX_ORDERS = 1500;

/** Collects outcomes where a search would look for bugs. */
function collect<S extends DfsSearch | DporSearch>(search: S, program: RandomProgram): Set<string> | null {
  const outcomes = new Set<string>();
  const open = search as unknown as { ended(execution: Execution): boolean };
  open.ended = (execution) => {
    search.totals.executions += 1;
    outcomes.add(program.outcome(execution));
    return false;
  };
  search.advance(MAX_ORDERS);
  return search.complete ? outcomes : null;
}

test(`reductions find every outcome of ${PROGRAMS} random programs`, () => {
  let compared = 0;
  for (let seed = 1; compared < PROGRAMS; seed++) {
    const program = randomProgram(seed);
    const all = collect(new DfsSearch(program), program);
    if (all === null) continue;
    compared += 1;
    const optimal = new DporSearch(program, true);
    assert.deepEqual([...collect(optimal, program)!].sort(), [...all].sort(), `seed ${seed}, optimal`);
    assert.equal(optimal.totals.blocked, 0, `seed ${seed}`);
    const source = collect(new DporSearch(program, false), program);
    assert.deepEqual([...source!].sort(), [...all].sort(), `seed ${seed}, source`);
  }
});
