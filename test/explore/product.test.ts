import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explore, listScenarios, replay, replayFileOf } from '../../src/explore/explore.ts';
import { runMutants } from '../../src/explore/mutants/run.ts';
import { htmlTimeline } from '../../src/report/html.ts';
import { textTimeline } from '../../src/report/timeline.ts';

test('every scenario of the product holds in every order', async () => {
  for (const { name, isClassic } of listScenarios()) {
    if (isClassic) continue;
    const { complete, blocked, bug } = await explore({ scenario: name });
    assert.deepEqual({ name, complete, blocked, bug }, { name, complete: true, blocked: 0, bug: null });
  }
});

test('every mutant is caught by its invariant, within ten seconds', async () => {
  for (const { name, caught, seconds, schedule } of await runMutants()) {
    assert.ok(caught, `${name} was missed`);
    assert.ok(seconds < 10, `${name} took ${seconds} s`);
    assert.ok(schedule.length > 0, `${name} has no schedule`);
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
  assert.match(textTimeline(run), /revoker/);
  assert.match(htmlTimeline(run), /class="box fails"/);
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
