/** Orders drawn at random: how often a priority search may leave a task, and how far a search is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SamplingSearch } from '../../src/explore/search/sampling.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { Cell } from '../../src/task/cell.ts';
import type { Task } from '../../src/task/op.ts';

const TASKS = 3;
const STEPS = 6;
const RUNS = 300;

/** Tasks that store into one cell. Adds the order of each run's stores to `orders`. */
function stores(orders: number[][]): Program {
  return {
    name: 'stores',
    summary: '',
    build(stage) {
      const order: number[] = [];
      orders.push(order);
      const cell = new Cell('cell', 0);
      for (let task = 0; task < TASKS; task++) {
        stage.spawn(`task ${task}`, storeOften(cell, task, order));
      }
    },
  };
}

function* storeOften(cell: Cell<number>, task: number, order: number[]): Task {
  for (let i = 0; i < STEPS; i++) {
    yield* cell.store(task);
    order.push(task);
  }
}

/** How often each whole run goes on with a task that it has left before. */
function returns(depth: number): number[] {
  const orders: number[][] = [];
  const search = new SamplingSearch(stores(orders), 'pct', 7, RUNS, depth);
  while (search.advance(RUNS) === 'more') {}
  return orders
    .filter((order) => order.length === TASKS * STEPS)
    .map((order) => order.filter((task, i) => i > 0 && task !== order[i - 1]).length - (TASKS - 1));
}

test('pct of depth d leaves a task before its end at most d - 1 times, and does so', () => {
  for (const depth of [1, 2, 3]) {
    const seen = returns(depth);
    assert.ok(seen.length >= RUNS);
    assert.equal(Math.max(...seen), depth - 1, `depth ${depth}`);
  }
});

test('the estimate of a search grows from none to all of its runs', () => {
  const search = new SamplingSearch(stores([]), 'random', 7, RUNS);
  let before = search.estimate();
  assert.equal(before, 0);
  for (let run = 1; run <= RUNS; run++) {
    search.advance(1);
    assert.equal(search.estimate(), run / RUNS);
    assert.ok(search.estimate() > before);
    before = search.estimate();
  }
  assert.equal(search.advance(1), 'done');
});

test('a search that has given a part away counts its own runs and those until the next part', () => {
  const search = new SamplingSearch(stores([]), 'random', 7, RUNS);
  const part = search.splitPart()!;
  assert.deepEqual(part.state, { next: RUNS / 2, end: RUNS });
  search.advance(RUNS / 4);
  assert.equal(search.estimate(), 1 / 4, 'the part is still its own to wait for');
  search.reclaimPart();
  assert.equal(search.advance(RUNS), 'done');
  assert.equal(search.totals.executions, RUNS);
});
