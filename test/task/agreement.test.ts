/**
 * The explorer and the Runner agree on random programs over every primitive of task/. A program that the explorer calls
 * complete never hangs in production, in any order of the Runner. If the explorer says that tasks wait for ever, the
 * Runner's tasks do.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../src/explore/search/random.ts';
import { type Algorithm, makeSearch } from '../../src/explore/spec.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { type ChosenRun, runChosen, runSchedule } from './chosen-runner.ts';
import { nestedProgram } from './nested-program.ts';

const FULL = process.env.BARTER_FULL === '1';
/** How many complete programs run in production. */
const COMPLETE = FULL ? 20_000 : 1500;
/** How many orders of the Runner each program runs in: depth first, and at random. */
const ORDERS = FULL ? 300 : 60;
const SAMPLES = FULL ? 100 : 20;
/** Skips searches that take more executions. */
const MAX_EXECUTIONS = 2000;

const STUCK = /^(deadlock|lost wake-up|held without bound)/;

function search(program: Program, algorithm: Algorithm) {
  const found = makeSearch(program, { scenario: '', algorithm, mutant: null, bound: null, seed: 1, samples: 0 });
  found.advance(MAX_EXECUTIONS);
  return found;
}

/** Runs the program in one order after the other; returns the first run that hangs or fails, or null. */
function firstBad(program: Program, seed: number): ChosenRun | null {
  const isBad = ({ hanging, errors }: ChosenRun): boolean => hanging.length > 0 || errors.length > 0;
  // The choice at each point, and the number of options there.
  let path: { choice: number; of: number }[] = [];
  for (let order = 0; order < ORDERS; order++) {
    let depth = 0;
    const run = runChosen(program, (ready) => {
      path[depth] ??= { choice: 0, of: ready.length };
      return ready[path[depth++].choice];
    });
    if (isBad(run)) return run;
    while (path.length > 0 && path[path.length - 1].choice + 1 >= path[path.length - 1].of) path.pop();
    if (path.length === 0) return null;
    path[path.length - 1].choice += 1;
    path = path.slice();
  }
  const random = new Random(seed);
  for (let sample = 0; sample < SAMPLES; sample++) {
    const run = runChosen(program, (ready) => ready[random.below(ready.length)]);
    if (isBad(run)) return run;
  }
  return null;
}

test(`${COMPLETE} programs that are complete never hang, and those that hang do`, () => {
  const counts = { complete: 0, stuck: 0, other: 0 };
  for (let seed = 1; counts.complete < COMPLETE; seed++) {
    const program = nestedProgram(seed);
    const optimal = search(program, 'optimal');
    if (optimal.bug !== null && STUCK.test(optimal.bug.message.replace(/^I\d: /, ''))) {
      counts.stuck += 1;
      const { hanging } = runSchedule(program, optimal.bug.schedule);
      assert.notDeepEqual(hanging, [], `seed ${seed}: the Runner goes on where ${optimal.bug.message}`);
    } else if (optimal.bug === null && optimal.complete) {
      counts.complete += 1;
      assert.equal(optimal.totals.blocked, 0, `seed ${seed}`);
      const bad = firstBad(program, seed);
      assert.equal(bad, null, `seed ${seed}: ${JSON.stringify(bad)}`);
    } else counts.other += 1;
  }
  assert.ok(counts.stuck > COMPLETE / 10, JSON.stringify(counts));
});

test('every way of searching says the same of a program', () => {
  for (let seed = 1; seed <= (FULL ? 5000 : 150); seed++) {
    const program = nestedProgram(seed);
    const all = search(program, 'dfs');
    if (!all.complete && all.bug === null) continue;
    const isStuck = (message: string | undefined): boolean => message !== undefined && STUCK.test(message);
    for (const algorithm of ['optimal', 'source'] as const) {
      const { bug } = search(program, algorithm);
      // If there are several bugs, searches may find different ones first.
      assert.equal(bug === null, all.bug === null, `seed ${seed}, ${algorithm}: ${bug?.message}; ${all.bug?.message}`);
      if (all.bug === null) assert.equal(isStuck(bug?.message), false);
    }
  }
});
