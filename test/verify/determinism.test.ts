/** A run depends only on its schedule: each schedule of a search gives the same run again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import type { Execution } from '../../src/explore/world/execution.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { show } from '../../src/explore/world/schedule.ts';
import { findProgram, listScenarios } from '../../src/verify/catalogue.ts';

class Recording extends DporSearch {
  readonly schedules: number[][] = [];

  protected override ended(execution: Execution, schedule: ArrayLike<number>, length: number): boolean {
    this.schedules.push(Array.from({ length }, (_, i) => schedule[i]));
    return super.ended(execution, schedule, length);
  }
}

const FAST = { stacks: false };

/** Runs each schedule twice; returns how many schedules there were, and how many different runs they gave. */
function runTwice(program: Program, most: number): { schedules: number; runs: number } {
  const search = new Recording(program, true);
  search.advance(most);
  // A search that learns more about its invariants restarts, so earlier schedules may come again.
  const schedules = search.schedules.slice(search.schedules.length - search.totals.executions);
  const hashes = schedules.map((schedule) => {
    const [first, again] = [show(program, schedule, FAST), show(program, schedule, FAST)];
    assert.equal(first.steps.length, schedule.length, `${program.name}: the schedule was followed to its end`);
    assert.equal(first.hash, again.hash, `${program.name}: ${schedule}`);
    assert.equal(first.finding, null);
    return first.hash;
  });
  return { schedules: hashes.length, runs: new Set(hashes).size };
}

test('every schedule of the product gives the same run twice, and no two give the same', () => {
  for (const { name, isClassic } of listScenarios()) {
    if (isClassic) continue;
    const { schedules, runs } = runTwice(findProgram(name), 100);
    assert.ok(schedules > 0);
    assert.equal(runs, schedules, name);
  }
});

test('stacks make no difference to the hash', () => {
  const program = findProgram('revoke-vs-close');
  const search = new Recording(program, true);
  search.advance(3);
  for (const schedule of search.schedules) {
    assert.equal(show(program, schedule).hash, show(program, schedule, FAST).hash);
  }
});

test('every schedule of the classics gives the same run twice', () => {
  for (const name of ['readers:3', 'lastzero:4', 'filesystem:16', 'sigma:3', 'casw:2', 'revoke:2']) {
    const { schedules, runs } = runTwice(findProgram(name), 100);
    assert.equal(runs, schedules, name);
  }
});
