/** Searching states instead of orders finds the same states, outcomes and bugs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import type { Search } from '../../src/explore/search/search.ts';
import { StatefulSearch } from '../../src/explore/search/stateful.ts';
import { DfsSearch } from '../../src/explore/search/walk.ts';
import { Execution } from '../../src/explore/world/execution.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { NotComparableError, StateKey } from '../../src/explore/world/state-key.ts';
import { Cell } from '../../src/task/cell.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { explore } from '../../src/verify/explore.ts';
import { randomProgram } from './random-program.ts';

const PROGRAMS = 500;
/** Skips programs with more orders than this: brute force takes too long for them. */
const MAX_ORDERS = 400;

/**
 * Every state that the search reaches, and every state in which runs end; null if there are too many orders. The keys
 * of two searches are comparable if they share their histories.
 */
function statesOf(
  search: Search,
  histories: Map<string, number>,
  most = 20_000,
): { all: Set<string>; last: Set<string> } | null {
  const all = new Set<string>();
  const last = new Set<string>();
  const keyOf = keyed(histories, all);
  const open = search as unknown as { newExecution(): Execution; ended(execution: Execution): boolean };
  const ids = (search as unknown as { ids: ConstructorParameters<typeof Execution>[1] }).ids;
  const keys = new WeakMap<Execution, StateKey>();
  open.newExecution = () => {
    const execution = new Execution(search.program, ids);
    keys.set(execution, keyOf(execution));
    return execution;
  };
  open.ended = (execution) => {
    search.totals.executions += 1;
    // A run that a broken invariant cut short ends in no state.
    const key = keys.get(execution)!.key();
    if (all.has(key)) last.add(key);
    return false;
  };
  return search.advance(most) === 'more' ? null : { all, last };
}

/** Records the state of an execution after each step, for any search. */
function keyed(histories: Map<string, number>, all: Set<string>): (execution: Execution) => StateKey {
  return (execution) => {
    const key = new StateKey(execution, histories);
    const take = execution.step.bind(execution);
    let isInside = false;
    execution.step = (task) => {
      if (isInside) return take(task);
      isInside = true;
      key.step(task);
      isInside = false;
      if (execution.finding === null) all.add(key.key());
    };
    if (execution.finding === null) all.add(key.key());
    return key;
  };
}

function assertSameStates(program: Program): boolean {
  const histories = new Map<string, number>();
  const orders = statesOf(new DfsSearch(program), histories, MAX_ORDERS);
  if (orders === null) return false;
  const states = statesOf(new StatefulSearch(program), histories)!;
  assert.deepEqual([...states.all].sort(), [...orders.all].sort(), `${program.name}: all states`);
  assert.deepEqual([...states.last].sort(), [...orders.last].sort(), `${program.name}: states at the end`);
  return true;
}

test(`all states of ${PROGRAMS} random programs are seen, and none besides`, () => {
  let compared = 0;
  for (let seed = 1; compared < PROGRAMS; seed++) if (assertSameStates(randomProgram(seed))) compared += 1;
});

test('those of the classics, which end where the reduction says that they end', () => {
  for (const name of ['readers:3', 'lastzero:2', 'casw:2', 'sigma:2', 'revoke:1', 'filesystem:2']) {
    assert.ok(assertSameStates(findProgram(name)), name);
  }
  for (const name of ['lastzero:4', 'casw:3', 'sigma:3', 'fib:2', 'redundant_co:2', 'filesystem:4', 'revoke:3']) {
    const program = findProgram(name);
    const histories = new Map<string, number>();
    const reduced = statesOf(new DporSearch(program, true), histories);
    assert.deepEqual(
      [...statesOf(new StatefulSearch(program), histories)!.last].sort(),
      [...reduced!.last].sort(),
      name,
    );
  }
});

test('five importers, of which the reduction runs 602,280 orders, and six', async () => {
  for (const scenario of ['revoke:5', 'revoke:6']) {
    const { complete, bug, states } = await explore({ scenario, algorithm: 'stateful' });
    assert.deepEqual([complete, bug], [true, null]);
    assert.ok(states! < 50_000);
  }
});

test('a bug is found, with its schedule', async () => {
  const { bug } = await explore({ scenario: 'revoke:4', algorithm: 'stateful', mutant: 'classic-no-drain' });
  assert.equal(bug?.invariant, 'I2');
  assert.equal(bug?.preemptions, 1);
});

test('programs whose states cannot be compared are refused', async () => {
  await assert.rejects(explore({ scenario: 'revoke-vs-map', algorithm: 'stateful' }), NotComparableError);
  const opaque: Program = {
    name: 'opaque',
    summary: '',
    build(stage) {
      stage.comparesBy(() => []);
      stage.spawn('task', new Cell('when', new Date()).load());
    },
  };
  await assert.rejects(exploreProgram(opaque, { algorithm: 'stateful' }), /cannot be compared: Date/);
});
