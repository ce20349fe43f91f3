/** Random probes tell how many orders a search will take, within a factor of three. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { Estimator } from '../../src/explore/search/estimate.ts';
import * as extensions from '../../src/explore/search/linear-extensions.ts';
import { Execution } from '../../src/explore/world/execution.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { StepLog } from '../../src/explore/world/step-log.ts';
import { TaskIds } from '../../src/explore/world/task-ids.ts';
import { findProgram, listScenarios } from '../../src/verify/catalogue.ts';
import { replacePrivate } from '../../src/verify/mutants/overlay.ts';
import { everyOrder } from './every-order.ts';
import { randomProgram } from './random-program.ts';

/** What a search takes in its first half second, and in its first minute. */
const PROBES = [200, 1000, 3000];

/** Takes more probes where the first ones are not near. */
function estimateOf(program: Program, orders: number): number {
  const estimator = new Estimator(program, true);
  for (const probes of PROBES) {
    while (estimator.probes < probes) estimator.probe();
    const ratio = estimator.orders / orders;
    if (ratio > 0.4 && ratio < 2.5) break;
  }
  return estimator.orders;
}

function assertNear(name: string, estimate: number, orders: number): void {
  const ratio = estimate / orders;
  assert.ok(ratio > 1 / 3 && ratio < 3, `${name}: ${orders} orders, and the estimate is ${estimate.toFixed(1)}`);
}

/** Sizes whose searches take about a second. */
const LARGER = ['lastzero:8', 'readers:10', 'revoke:4', 'filesystem:18', 'revoke-vs-map:4', 'close-vs-map:3'];

test('every built-in scenario, and larger sizes that end in seconds', async () => {
  const classics = [
    'casw:3',
    'fib:3',
    'sigma:4',
    'lastwrite:4',
    'indexer:13',
    'redundant_co:3',
    'n_writers_a_reader:4',
  ];
  const product = listScenarios().filter(({ isClassic }) => !isClassic);
  for (const name of [...LARGER, ...classics, ...product.map(({ name }) => name)]) {
    const program = findProgram(name);
    const { executions } = await exploreProgram(program);
    assertNear(name, estimateOf(program, executions), executions);
  }
});

/** The relative error of the mean estimate of random programs. */
function meanRatio(): number {
  let [sum, count] = [0, 0];
  for (let seed = 1; count < 40; seed++) {
    const program = randomProgram(seed);
    const all = everyOrder(program, 300);
    if (all === null || all.forms.size < 2) continue;
    const estimator = new Estimator(program, true);
    for (let n = 0; n < 200; n++) estimator.probe();
    // Without the cut of rare numbers that `orders` makes.
    const { weights } = estimator as unknown as { weights: number[] };
    sum += weights.reduce((all, one) => all + one, 0) / weights.length / all.forms.size;
    count += 1;
  }
  return sum / count;
}

test('probes have no bias: random programs, by brute force', () => {
  const ratio = meanRatio();
  assert.ok(ratio > 0.93 && ratio < 1.07, `${ratio}`);
});

test('a bias is noticed', () => {
  const undo = replacePrivate<object>(Estimator.prototype, 'isPrivate', () => false);
  assert.ok(Math.abs(meanRatio() - 1) < 0.1, 'private steps only save time');
  undo();
  const forget = replacePrivate<object>(Estimator.prototype, 'sawMore', () => false);
  assert.ok(meanRatio() < 0.9, 'steps that conflict were taken for private ones');
  forget();
});

test('an estimate comes before the search, and while it runs', async () => {
  const totals: number[] = [];
  await exploreProgram(findProgram('revoke:5'), {
    max: 20_000,
    onProgress: ({ total, executions }) => totals.push(executions === 0 ? total : -total),
  });
  assert.ok(totals[0] > 602_280 / 3 && totals[0] < 602_280 * 3, `${totals}`);
});

test('linear extensions of independent chains, of a ladder, and of many', () => {
  const count = (program: Program): number => {
    const log = new StepLog();
    const execution = new Execution(program, new TaskIds());
    for (;;) {
      const task = execution.order.find((one) => execution.isReady(one));
      if (task === undefined) break;
      log.take(execution, task);
    }
    return Math.exp(extensions.logExtensions(log, [...Array(log.length).keys()]));
  };
  assert.ok(Math.abs(count(findProgram('readers:1')) - 1) < 1e-9);
  // The writer comes first, and the readers after it in any order.
  assert.ok(Math.abs(count(findProgram('readers:5')) - 120) < 1e-6);
});
