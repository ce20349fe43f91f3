/** A search whose parts are given away at any time and in any order has the same result as one alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Search } from '../../src/explore/search/search.ts';
import { ALGORITHMS, makeSearch, type SearchSpec } from '../../src/explore/spec.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { applyMutant, findMutant } from '../../src/verify/mutants/index.ts';
import { ByParts } from './by-parts.ts';
import { randomProgram } from './random-program.ts';

const SPEC: SearchSpec = { scenario: '', algorithm: 'optimal', mutant: null, bound: null, seed: 7, samples: 600 };
const MOST = 600;

/** The results that do not depend on the threads: the totals, the bug, the lock order. */
function outcomeOf(search: Search): object {
  const { totals, complete, bug, lockOrder } = search;
  return { totals, complete, bug: bug && { ...bug, subjects: undefined }, cycle: lockOrder.cycle() };
}

function alone(program: Program, spec: SearchSpec): Search | null {
  const search = makeSearch(program, spec);
  for (let n = 0; n < MOST; n++) if (search.advance(1) !== 'more') return search;
  return null;
}

function assertSame(program: Program, spec: SearchSpec, seed: number): void {
  const wanted = alone(program, spec);
  if (wanted === null) return;
  const what = `${program.name}, ${spec.algorithm}, bound ${spec.bound}, seed ${seed}`;
  assert.deepEqual(outcomeOf(new ByParts(() => makeSearch(program, spec), seed).run()), outcomeOf(wanted), what);
}

test('random programs', () => {
  for (let seed = 1; seed <= 200; seed++) {
    for (const algorithm of ALGORITHMS) assertSame(randomProgram(seed), { ...SPEC, algorithm, samples: 200 }, seed);
    assertSame(randomProgram(seed), { ...SPEC, bound: 1 }, seed);
  }
});

test('the classics, and a bug in one', () => {
  const names = ['readers:7', 'lastzero:6', 'sigma:3', 'casw:3', 'fib:2', 'revoke:3', 'filesystem:17', 'indexer:13'];
  for (const algorithm of ALGORITHMS) {
    for (const name of names) for (const seed of [1, 2, 3]) assertSame(findProgram(name), { ...SPEC, algorithm }, seed);
  }
  const undo = applyMutant(findMutant('classic-no-drain'));
  try {
    for (const algorithm of ALGORITHMS) {
      for (let seed = 1; seed <= 20; seed++) assertSame(findProgram('revoke:3'), { ...SPEC, algorithm }, seed);
    }
  } finally {
    undo();
  }
});
