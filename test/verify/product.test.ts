import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listScenarios } from '../../src/verify/catalogue.ts';
import { explore, replay, replayFileOf } from '../../src/verify/explore.ts';
import { PRODUCT_PROGRAMS } from '../../src/verify/product/index.ts';
import { TRIGGERS } from '../../src/verify/product/triggers.ts';

/**
 * BARTER_FULL=1 explores all sizes completely, which takes hours instead of seconds. docs/scenarios.md has the counts.
 */
const isFull = process.env.BARTER_FULL === '1';

async function assertHolds(scenario: string, max?: number): Promise<number> {
  const { executions, complete, blocked, bug } = await explore({ scenario, ...(max === undefined ? {} : { max }) });
  assert.equal(bug, null, `${scenario}: ${bug?.message}`);
  assert.equal(blocked, 0, `${scenario} has blocked runs: a step reads or writes what the explorer cannot see`);
  if (max === undefined) assert.ok(complete, scenario);
  return executions;
}

test('no two scenarios have the same name, of which one would never be run', () => {
  const names = listScenarios().map(({ name }) => name);
  assert.deepEqual(
    names.filter((name, i) => names.indexOf(name) !== i),
    [],
  );
});

test('every scenario of the product holds in every order', async () => {
  for (const { name, isClassic } of listScenarios()) if (!isClassic) await assertHolds(name);
});

test('with two importers too', async () => {
  for (const { name, sizes } of PRODUCT_PROGRAMS) if (sizes !== null) await assertHolds(`${name}:2`);
});

test('with three to five importers, as far as time allows', async () => {
  for (const { name, sizes } of PRODUCT_PROGRAMS) {
    if (sizes === null) continue;
    for (const size of [3, 4, 5]) await assertHolds(`${name}:${size}`, isFull ? undefined : 150);
  }
});

test('the number of orders of two triggers does not depend on which task is listed first', async () => {
  const names = Object.keys(TRIGGERS);
  for (const [i, a] of names.entries()) {
    for (const b of names.slice(i + 1)) {
      assert.equal(await assertHolds(`${a}-vs-${b}`), await assertHolds(`${b}-vs-${a}`), `${a} and ${b}`);
    }
  }
});

test('the source reduction agrees on the correct code', async () => {
  for (const scenario of ['revoke-vs-dma', 'revoke-vs-export', 'hot-reset-vs-member-close', 'close-vs-release']) {
    const optimal = await explore({ scenario });
    const source = await explore({ scenario, algorithm: 'source' });
    assert.ok(source.executions >= optimal.executions, scenario);
    assert.deepEqual([source.bug, source.complete], [null, true], scenario);
  }
});

test('a replay file gives the same run, and tells when it does not', async () => {
  const result = await explore({ scenario: 'revoke:2', mutant: 'classic-no-drain' });
  assert.equal(result.bug?.invariant, 'I2');
  const file = replayFileOf(result)!;
  const { run, matches } = replay(file);
  assert.ok(matches);
  assert.equal(run.finding?.invariant, 'I2');
  assert.equal(replay({ ...file, mutant: null }).matches, false);
});

test('sampling and bounded searches find the bug of the classic', async () => {
  for (const algorithm of ['pct', 'pos', 'random', 'dfs', 'source'] as const) {
    const { bug } = await explore({ scenario: 'revoke:2', mutant: 'classic-no-drain', algorithm });
    assert.equal(bug?.invariant, 'I2', algorithm);
    assert.equal(bug?.preemptions, 1, algorithm);
  }
  const bounded = await explore({ scenario: 'revoke:2', mutant: 'classic-no-drain', bound: 0 });
  assert.deepEqual([bounded.complete, bounded.bug], [true, null]);
});
