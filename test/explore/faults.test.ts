/** Each fault that the explorer once had, as FILE:NAME of the program that showed it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Algorithm } from '../../src/explore/spec.ts';
import { explore, runOf } from '../../src/verify/explore.ts';

const FILE = fileURLToPath(new URL('./fault-programs.ts', import.meta.url));

/** The bugs that searches of whole orders find. They must be the same. */
async function bugsOf(name: string, algorithms: readonly Algorithm[] = ['optimal', 'source', 'dfs']) {
  const results = [];
  for (const algorithm of algorithms) results.push(await explore({ scenario: `${FILE}:${name}`, algorithm }));
  return results;
}

async function assertBug(name: string, invariant: string, message: RegExp): Promise<void> {
  for (const { algorithm, bug } of await bugsOf(name)) {
    assert.equal(bug?.invariant, invariant, `${algorithm}: ${bug?.message}`);
    assert.match(bug.message, message, algorithm);
  }
}

test('a reader comes before a try that failed', () => assertBug('failed-try', 'I1', /the reader saw 0/));

test('a second step of a task does not begin an order', () => assertBug('second-step', 'I1', /the reader saw 0/));

test('an invariant over two cells sees every state', () => assertBug('two-cells', 'I1', /both are 1/));

test('a forgotten wake is a lost wake-up', () => assertBug('forgotten-wake', 'I4', /^lost wake-up: .*waiter/));

test('a reader queues behind a writer that waits', () => assertBug('fair-queue', 'I7', /writer/));

test('a value that changes in place can be waited for', () => assertBug('in-place', 'I1', /two came/));

test('the schedule has one preemption, though another invariant breaks on the way', async () => {
  for (const { bug } of await bugsOf('another-first', ['optimal', 'source', 'dfs', 'random'])) {
    if (bug?.invariant === 'I1') assert.equal(bug.preemptions, 1, bug.schedule.join());
    else assert.deepEqual([bug?.invariant, bug?.preemptions], ['I2', 0]);
  }
});

test('a livelock is one loop', async () => {
  for (const { bug } of await bugsOf('spinner', ['optimal', 'dfs', 'pct', 'pos', 'random'])) {
    assert.match(bug!.message, /^livelock: 1 step repeats for ever: spinner: read flag, now false$/);
    assert.deepEqual(bug!.schedule, ['spinner', 'spinner']);
  }
});

test('a program that is not deterministic is named', () =>
  assertBug('random', 'determinism', /step 0, the one of player, \(read dice\) found 0\.\d+ in one run, and 0\.\d+/));

test('an object in a cell is shown as what it is', async () => {
  const [{ bug, scenario }] = await bugsOf('object');
  const { steps } = runOf(scenario, null, bug!.steps);
  assert.match(steps[0].state, /owner.*me/);
  assert.doesNotMatch(steps[0].state, /\[object/);
});

test('a cycle behind a gate is none', async () => {
  for (const { bug, complete } of await bugsOf('gate')) assert.deepEqual([bug, complete], [null, true]);
});

test('what no invariant looks at is still a race', () => assertBug('unguarded', 'race', /^data race: .*field/));
