/**
 * Compares every search on random programs with the oracle that takes every order. A search must run each equivalence
 * class of orders once, none in vain, and find every outcome, every deadlock and every state that an invariant sees.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Search } from '../../src/explore/search/search.ts';
import { type Algorithm, makeSearch } from '../../src/explore/spec.ts';
import type { Execution } from '../../src/explore/world/execution.ts';
import { ByParts } from './by-parts.ts';
import { everyClass } from './every-class.ts';
import { everyOrder, type ObservableProgram, takeOrder } from './every-order.ts';
import { randomProgram } from './random-program.ts';

const PROGRAMS = process.env.BARTER_FULL === '1' ? 100_000 : 5_000;
/** Skips programs with more orders than this: taking all of them takes too long. */
const MAX_ORDERS = process.env.BARTER_FULL === '1' ? 1_000 : 60;
/** Larger programs: how many, how many more actions a task may have, and the most classes of prefixes. */
const LARGER = process.env.BARTER_FULL === '1' ? 10_000 : 200;
const MORE_ACTIONS = process.env.BARTER_FULL === '1' ? 2 : 1;
const MAX_PREFIXES = process.env.BARTER_FULL === '1' ? 3_000 : 400;

interface Found {
  search: Search;
  forms: Set<string>;
  outcomes: Set<string>;
  looks: Set<string>;
  schedules: number[][];
}

function make(program: ObservableProgram, algorithm: Algorithm): Search {
  return makeSearch(program, { scenario: '', algorithm, mutant: null, bound: null, seed: 1, samples: 0 });
}

/** Runs the search to its end, and collects results where it would look for bugs. */
function collect(program: ObservableProgram, algorithm: Algorithm): Found {
  const search = make(program, algorithm);
  const found: Found = { search, forms: new Set(), outcomes: new Set(), looks: new Set(), schedules: [] };
  const open = search as unknown as {
    ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean;
  };
  open.ended = (execution, schedule, length) => {
    search.totals.executions += 1;
    found.outcomes.add(program.outcome(execution));
    for (const look of program.seen()) found.looks.add(look);
    found.schedules.push(Array.from({ length }, (_, i) => schedule[i]));
    return false;
  };
  while (search.advance(1000) === 'more') {}
  assert.ok(search.complete, `${program.name}, ${algorithm}`);
  return found;
}

function formsOf(program: ObservableProgram, { schedules, search }: Found): Set<string> {
  // Executions before a restart of the search do not count.
  const last = schedules.slice(schedules.length - search.totals.executions);
  return new Set(last.map((schedule) => takeOrder(program, (_, depth) => schedule[depth] ?? -1).form));
}

const sorted = (set: Set<string>): string[] => [...set].sort();

function assertCovers(program: ObservableProgram, all: NonNullable<ReturnType<typeof everyOrder>>): void {
  const { name } = program;
  const optimal = collect(program, 'optimal');
  assert.deepEqual(sorted(formsOf(program, optimal)), sorted(all.forms), `${name}: optimal misses orders`);
  const { executions, blocked } = optimal.search.totals;
  assert.deepEqual({ executions, blocked }, { executions: all.forms.size, blocked: 0 }, `${name}: optimal`);
  assert.deepEqual(sorted(optimal.looks), sorted(all.looks), `${name}: optimal hides states`);
  const source = collect(program, 'source');
  assert.deepEqual(sorted(formsOf(program, source)), sorted(all.forms), `${name}: source misses orders`);
  for (const algorithm of ['optimal', 'source', 'stateful'] as const) {
    const found = algorithm === 'optimal' ? optimal : algorithm === 'source' ? source : collect(program, algorithm);
    assert.deepEqual(sorted(found.outcomes), sorted(all.outcomes), `${name}: ${algorithm} misses outcomes`);
  }
}

/** The results that do not depend on the thread that did the work. */
function resultOf({ totals, complete, bug }: Search): object {
  return { totals, complete, bug: bug && { ...bug, subjects: undefined } };
}

function alone(program: ObservableProgram, algorithm: Algorithm): Search {
  const search = make(program, algorithm);
  while (search.advance(1000) === 'more') {}
  return search;
}

test(`${PROGRAMS} random programs: no search misses anything, and none does anything in vain`, () => {
  let compared = 0;
  let withBugs = 0;
  for (let seed = 1; compared < PROGRAMS; seed++) {
    const program = randomProgram(seed);
    const findings = new Set<string>();
    const all = everyOrder(program, MAX_ORDERS, ({ finding }) => {
      if (finding !== '') findings.add(finding);
    });
    if (all === null) continue;
    compared += 1;
    for (const algorithm of ['optimal', 'source'] as const) {
      const one = alone(program, algorithm);
      assert.equal(one.bug !== null, findings.size > 0, `${program.name}, ${algorithm}: ${[...findings]}`);
      const two = new ByParts(() => make(program, algorithm), seed).run();
      assert.deepEqual(resultOf(two), resultOf(one), `${program.name}, ${algorithm}: by two`);
    }
    // An execution ends when an invariant breaks, so no order covers later steps.
    if ([...findings].some((finding) => finding !== 'I4: stuck')) withBugs += 1;
    else assertCovers(program, all);
  }
  assert.ok(withBugs < PROGRAMS / 20, `${withBugs} programs break something`);
});

test(`${LARGER} larger programs, by the classes of their prefixes`, () => {
  let compared = 0;
  for (let seed = 1; compared < LARGER; seed++) {
    const program = randomProgram(seed, MORE_ACTIONS);
    const all = everyClass(program, MAX_PREFIXES);
    if (all === null) continue;
    compared += 1;
    for (const algorithm of ['optimal', 'source', 'stateful'] as const) {
      const text = `${program.name}, ${algorithm}`;
      if ([...all.findings].some((finding) => finding !== 'I4: stuck')) {
        assert.notEqual(alone(program, algorithm).bug, null, `${text}: ${[...all.findings]}`);
        continue;
      }
      const { search, outcomes, looks } = collect(program, algorithm);
      assert.deepEqual(sorted(outcomes), sorted(all.outcomes), `${text} misses outcomes`);
      if (algorithm !== 'stateful') assert.deepEqual(sorted(looks), sorted(all.looks), `${text} hides states`);
      const { executions, blocked } = search.totals;
      if (algorithm === 'optimal') assert.deepEqual([executions, blocked], [all.orders, 0], text);
      if (algorithm === 'source') assert.ok(executions >= all.orders, text);
    }
  }
});
