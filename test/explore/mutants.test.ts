/**
 * Faults that the explorer once had, put back into it. The oracle that takes every order and the fault programs must
 * reveal them.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import nodeModule, { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import { minimise } from '../../src/explore/search/minimise.ts';
import type { PathNode } from '../../src/explore/search/path.ts';
import { QueueCuts } from '../../src/explore/search/queue-cuts.ts';
import { Races } from '../../src/explore/search/races.ts';
import { type Bug, Search } from '../../src/explore/search/search.ts';
import type { Algorithm } from '../../src/explore/spec.ts';
import { Access, conflict, isAcquire, type PlannedStep } from '../../src/explore/world/access.ts';
import { Execution } from '../../src/explore/world/execution.ts';
import type { Finding } from '../../src/explore/world/finding.ts';
import { InvariantScopes } from '../../src/explore/world/invariant-scopes.ts';
import type { Program } from '../../src/explore/world/program.ts';
import { show } from '../../src/explore/world/schedule.ts';
import { StepLog } from '../../src/explore/world/step-log.ts';
import { importUserModule } from '../../src/linux/user-module.ts';
import { Cell } from '../../src/task/cell.ts';
import { action, Op, OpKind } from '../../src/task/op.ts';
import type { Touchable } from '../../src/task/runtime.ts';
import type { Shared } from '../../src/task/shared.ts';
import { WaitQueue } from '../../src/task/wait-queue.ts';
import { replace, replacePrivate } from '../../src/verify/mutants/overlay.ts';
import { everyOrder } from './every-order.ts';
import {
  anotherFirst,
  betweenLocks,
  failedTry,
  fairQueue,
  forgottenWake,
  object,
  random,
  secondStep,
  spinner,
  twoCells,
} from './fault-programs.ts';
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

/** An error is a failed check. */
const noError = (holds: () => Promise<boolean>) => (): Promise<boolean> => holds().catch(() => false);

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

test('a failed try is not a race of its lock', () =>
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

test('a planned step is believed to touch no less than the most that it may', () =>
  assertTold(
    () =>
      replacePrivate<{ least: object; step: object }>(Races.prototype, 'bound', function () {
        this.least = { ...this.step };
      }),
    takesEvery(4811),
  ));

test('touches of plain fields change nothing that invariants look at', () =>
  assertTold(() => {
    const { onAccess } = Execution.prototype;
    return replacePrivate<Execution>(Execution.prototype, 'onAccess', function (what: Touchable, isChange: boolean) {
      const { stale } = this as unknown as { stale: number };
      onAccess.call(this, what, isChange);
      if (isChange) Object.assign(this, { stale });
    });
  }, findsBug(betweenLocks)));

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

test('a condition is asked for ever, with or without a wake', () =>
  assertTold(() => {
    const polled = action<WaitQueue, () => boolean, void>(
      OpKind.WAIT,
      () => {},
      (_, condition) => condition(),
    );
    return replacePrivate<WaitQueue>(WaitQueue.prototype, 'waitUntil', function (condition) {
      return new Op(polled, this, condition);
    });
  }, findsBug(forgottenWake)));

test('a reader never queues behind a writer', () =>
  assertTold(() => replace(QueueCuts.prototype, 'find', () => null), findsBug(fairQueue)));

/** Changes in place, and a task that waits for both of them. */
const bothCame: Program = {
  name: 'both-came',
  summary: '',
  build(stage) {
    const list = new Cell<string[]>('list', []);
    stage.spawn(
      'waiter',
      list.waitUntil((now) => now.length === 2),
    );
    for (const name of ['one', 'two']) {
      stage.spawn(
        name,
        list.changeFor((now) => {
          now.push(name);
        }),
      );
    }
  },
};

test('a guard is asked about a past state that has changed in place', () =>
  assertTold(
    () => {
      const kept = action<Shared & { current: unknown }, (value: unknown) => boolean, void>(
        OpKind.WAIT,
        () => {},
        (cell, guard) => guard(cell.current),
      );
      return replacePrivate<Cell<unknown>>(Cell.prototype, 'lookAfterChanges', function (guard) {
        return new Op(kept, this, guard);
      });
    },
    async () => (await exploreProgram(bothCame)).bug === null,
  ));

test('an endless run is shown with all its steps', () =>
  assertTold(
    () => {
      const endless = (finding: Finding, _: Execution, schedule: ArrayLike<number>, length: number): Bug => ({
        ...finding,
        schedule: Array.from({ length }, (_, i) => schedule[i]),
      });
      return replacePrivate<Search>(Search.prototype, 'bugOf', endless);
    },
    async () => {
      const { bug } = await exploreProgram(spinner, { maxSteps: 100 });
      return bug?.schedule.length === 2 && bug.message.startsWith('livelock: 1 step');
    },
  ));

test('a step that is taken again may be another one', () =>
  assertTold(() => {
    return replacePrivate<StepLog>(StepLog.prototype, 'retake', (execution: Execution, task: number) => {
      execution.step(task);
      return null;
    });
  }, findsBug(random)));

test('an object in a cell is written as its class', () =>
  assertTold(
    () =>
      replacePrivate<{ current: unknown }>(Cell.prototype, 'describe', function () {
        return String(this.current);
      }),
    async () => show(object, (await exploreProgram(object)).bug!.steps).steps[0].state === '{owner: "me"}',
  ));

type Finder = { _resolveFilename(name: string, ...rest: unknown[]): string };
/** Node's own way to find a file of CommonJS. */
const findFile = (nodeModule as unknown as Finder)._resolveFilename;

test("a user's file is loaded as the nearest package says", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-mutant-'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'commonjs' }));
  let files = 0;
  try {
    await assertTold(
      () => {
        const undo = [
          replacePrivate(nodeModule, 'register', () => {}),
          replace(nodeModule as unknown as Finder, '_resolveFilename', findFile),
        ];
        syncBuiltinESMExports();
        return () => {
          for (const one of undo) one();
          syncBuiltinESMExports();
        };
      },
      noError(async () => {
        const file = join(folder, `typed${files++}.ts`);
        writeFileSync(file, "import { Cell } from 'barter';\nexport const cell: Cell<number> = new Cell('x', 0);\n");
        return (await importUserModule(file)).cell instanceof Cell;
      }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
