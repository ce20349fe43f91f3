/**
 * Faults that the explorer once had, put back into it. The oracle that takes every order and the fault programs must
 * reveal them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import { minimise } from '../../src/explore/search/minimise.ts';
import type { PathNode } from '../../src/explore/search/path.ts';
import { Races } from '../../src/explore/search/races.ts';
import type { Algorithm } from '../../src/explore/spec.ts';
import { Access, conflict, isAcquire, type PlannedStep } from '../../src/explore/world/access.ts';
import { InvariantScopes } from '../../src/explore/world/invariant-scopes.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { StepLog } from '../../src/explore/world/step-log.ts';
import { replace, replacePrivate } from '../../src/verify/mutants/overlay.ts';
import { everyOrder } from './every-order.ts';
import { anotherFirst, failedTry, secondStep, twoCells } from './fault-programs.ts';
import { randomProgram } from './random-program.ts';

/** The check must hold without the mutant, and fail with it. */
async function assertTold(apply: () => () => void, holds: () => boolean | Promise<boolean>): Promise<void> {
  assert.equal(await holds(), true, 'without the mutant');
  const undo = apply();
  try {
    assert.equal(await holds(), false, 'with the mutant');
  } finally {
    undo();
  }
  assert.equal(await holds(), true, 'after the mutant');
}

const findsBug =
  (program: Program, algorithm: Algorithm = 'optimal') =>
  async (): Promise<boolean> =>
    (await exploreProgram(program, { algorithm })).bug !== null;

/** The reduction must take one order for each class of commuting orders. */
const takesEvery = (seed: number) => (): boolean => {
  const program = randomProgram(seed);
  const search = new DporSearch(program, true);
  // A bug must not end the search, since its coverage counts here.
  const open = search as unknown as { ended(): boolean };
  open.ended = () => {
    search.totals.executions += 1;
    return false;
  };
  while (search.advance(1000) === 'more') {}
  return search.totals.executions === everyOrder(program, 5000)!.forms.size;
};

test('failed tries are no races of a lock', () =>
  assertTold(() => {
    const { ofLock } = Races.prototype as unknown as { ofLock: (...args: never[]) => void };
    return replacePrivate<{ log: StepLog }>(Races.prototype, 'ofLock', function (this: { log: StepLog }, ...args) {
      const { log } = this;
      const before = log.beforeOnObject.bind(log);
      const isFailedTry = (i: number): boolean => i >= 0 && isAcquire(log.kind[i]) && log.access[i] === Access.READ;
      const skip = (i: number): number => (isFailedTry(i) ? skip(before(i)) : i);
      log.beforeOnObject = (i) => skip(before(i));
      const [kind, start, ...rest] = args as unknown as [number, number, ...never[]];
      ofLock.call(this, ...([kind, skip(start), ...rest] as never[]));
      log.beforeOnObject = before;
    });
  }, findsBug(failedTry)));

test('a later step of a task is taken for its first', () =>
  assertTold(
    () =>
      replacePrivate<object>(DporSearch.prototype, 'isStarted', ({ started }: PathNode, sequence: PlannedStep[]) =>
        sequence.some((step) => {
          const before = sequence.slice(
            0,
            sequence.findIndex(({ task }) => task === step.task),
          );
          return started.includes(step.task) && !before.some((other) => conflict(step, other));
        }),
      ),
    findsBug(secondStep, 'source'),
  ));

test('invariants see only the states of the orders that are taken anyway', () =>
  assertTold(() => replace(InvariantScopes.prototype, 'add', () => {}), findsBug(twoCells)));

test('a planned step is believed to touch the most that it may', () =>
  assertTold(
    () => replacePrivate<object>(DporSearch.prototype, 'exactly', (_: never, sequence: never) => sequence),
    takesEvery(4811),
  ));

test('conditions over anything race with nothing', () =>
  assertTold(() => replacePrivate<object>(Races.prototype, 'ofEvaluate', () => {}), takesEvery(4811)));

test('a step that others evaluate is free to move', () =>
  assertTold(() => replace(StepLog.prototype, 'beforeElsewhere', () => []), takesEvery(4811)));

test('the minimiser stops where another invariant breaks', async () => {
  const { bug } = await exploreProgram(anotherFirst, { algorithm: 'dfs' });
  assert.ok(bug !== null);
  const schedule = [0, 1, 0, 1, 0, 1, 0, 1];
  assert.ok(minimise(anotherFirst, { invariant: 'I1', message: '', schedule }, 5000).preemptions <= 1);
});
