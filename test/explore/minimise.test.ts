/** A bug's schedule has the fewest preemptions possible, and then the fewest steps, as compared with every order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { minimise } from '../../src/explore/search/minimise.ts';
import { Random } from '../../src/explore/search/random.ts';
import type { Bug } from '../../src/explore/search/search.ts';
import { makeSearch } from '../../src/explore/spec.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { InvariantError } from '../../src/task/lifetime.ts';
import { everyOrder, type OrderSeen } from './every-order.ts';
import { randomProgram } from './random-program.ts';

const BUGS = process.env.BARTER_FULL === '1' ? 20_000 : 1_000;
const MAX_ORDERS = 40;

interface Planted {
  program: Program;
  wanted: { preemptions: number; length: number };
}

/** A random program in which one outcome is a bug, and another outcome a different bug. */
function plant(seed: number): Planted | null {
  const program = randomProgram(seed);
  const orders: OrderSeen[] = [];
  const all = everyOrder(program, MAX_ORDERS, (seen) => orders.push(seen));
  const isClean = orders.every(({ finding }) => finding === '' || finding === 'I4: stuck');
  const ends = orders.filter(({ finding }) => finding === '');
  const outcomes = [...new Set(ends.map(({ outcome }) => outcome))];
  if (all === null || !isClean || outcomes.length < 2) return null;
  const random = new Random(seed);
  const bad = outcomes[random.below(outcomes.length)];
  const worse = outcomes[random.below(outcomes.length)];
  const failing = ends
    .filter(({ outcome }) => outcome === bad && outcome !== worse)
    .map(({ preemptions, length }) => ({ preemptions, length }))
    .sort((a, b) => a.preemptions - b.preemptions || a.length - b.length);
  if (failing.length === 0) return null;
  return { program: withBugs(program, bad, worse), wanted: failing[0] };
}

function withBugs(program: ReturnType<typeof randomProgram>, bad: string, worse: string): Program {
  return {
    ...program,
    build(stage) {
      program.build(stage);
      stage.atEnd(() => {
        const outcome = program.outcomeAtEnd();
        if (outcome === worse) throw new InvariantError('I1', 'another bug');
        if (outcome === bad) throw new InvariantError('I9', 'the bug');
      });
    },
  };
}

test(`the fewest preemptions and steps, of ${BUGS} random bugs`, () => {
  let tried = 0;
  for (let seed = 1; tried < BUGS; seed++) {
    const planted = plant(seed);
    if (planted === null) continue;
    tried += 1;
    const { program, wanted } = planted;
    const bug = findBug(program, seed);
    const { preemptions, schedule, isMinimal } = minimise(program, bug, 60_000);
    assert.deepEqual({ preemptions, length: schedule.length }, wanted, program.name);
    assert.ok(isMinimal, program.name);
  }
});

/** The bug as a random search finds it, which is not the shortest schedule. */
function findBug(program: Program, seed: number): Bug {
  const spec = { scenario: '', algorithm: 'random', mutant: null, bound: null, samples: 100_000 } as const;
  for (let again = 0; ; again++) {
    const search = makeSearch(program, { ...spec, seed: seed + 1000 * again });
    while (search.bug === null) search.advance(50);
    if (search.bug.invariant === 'I9') return search.bug;
  }
}
