/** A search of which parts are given away, at any moment and in any order, comes to what it comes to alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { followedBy } from '../../src/explore/parallel/worker-pool.ts';
import { Random } from '../../src/explore/search/random.ts';
import type { Part, PartOutcome, Search } from '../../src/explore/search/search.ts';
import { ALGORITHMS, makeSearch, type SearchSpec } from '../../src/explore/spec.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { applyMutant, findMutant } from '../../src/verify/mutants/index.ts';
import { randomProgram } from './random-program.ts';

const SPEC: SearchSpec = { scenario: '', algorithm: 'optimal', mutant: null, bound: null, seed: 7, samples: 600 };
const MOST = 600;

/** What does not depend on who has done what: the totals, the bug, the order of locks. */
function outcomeOf(search: Search): object {
  const { totals, complete, bug, lockOrder } = search;
  return { totals, complete, bug: bug && { ...bug, subjects: undefined }, cycle: lockOrder.cycle() };
}

function alone(program: Program, spec: SearchSpec): Search | null {
  const search = makeSearch(program, spec);
  for (let n = 0; n < MOST; n++) if (search.advance(1) !== 'more') return search;
  return null;
}

const asSent = <T>(data: T): T => JSON.parse(JSON.stringify(data)) as T;

/** Goes through the search as several threads would, one after the other; chance decides who is when. */
class ByParts {
  private readonly random: Random;
  private readonly search: Search;
  private readonly other: Search;
  private readonly parts: Part[] = [];
  private readonly outcomes = new Map<number, PartOutcome>();

  constructor(program: Program, spec: SearchSpec, seed: number) {
    this.random = new Random(seed);
    this.search = makeSearch(program, spec);
    this.other = makeSearch(program, spec);
  }

  run(): Search {
    const { search, random } = this;
    for (;;) {
      if (random.below(3) === 0) this.splitPart();
      if (random.below(2) === 0 && this.parts.length > 0) this.goThroughOne();
      const progress = search.advance(1);
      if (progress === 'waits') this.awaitPart();
      if (search.bug !== null || search.complete || progress === 'done') return search;
    }
  }

  private splitPart(): void {
    const part = this.search.splitPart();
    if (part !== null) this.parts.push(asSent(part));
  }

  /** Goes through a part, often not to its end. */
  private goThroughOne(at = this.random.below(this.parts.length)): void {
    const [{ id, state }] = this.parts.splice(at, 1);
    this.other.load(state);
    this.other.advance(1 + this.random.below(4));
    const outcome = asSent(this.other.outcome());
    const before = this.outcomes.get(id);
    const all = before === undefined ? outcome : followedBy(before, outcome);
    this.outcomes.set(id, all);
    if (all.rest !== null && this.random.below(2) === 0) this.parts.push({ id, state: all.rest });
  }

  private awaitPart(): void {
    const { search, parts, outcomes } = this;
    for (let at = 0; at >= 0; ) {
      at = parts.findIndex(({ id }) => id === search.awaited);
      if (at >= 0) this.goThroughOne(at);
    }
    if (this.random.below(8) === 0) search.reclaimPart();
    else search.join(outcomes.get(search.awaited)!);
  }
}

function assertSame(program: Program, spec: SearchSpec, seed: number): void {
  const wanted = alone(program, spec);
  if (wanted === null) return;
  const what = `${program.name}, ${spec.algorithm}, bound ${spec.bound}, seed ${seed}`;
  assert.deepEqual(outcomeOf(new ByParts(program, spec, seed).run()), outcomeOf(wanted), what);
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
