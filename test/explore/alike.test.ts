/**
 * Alike tasks: the search takes one of the orders that differ only by exchanges of them, misses none, and refuses tasks
 * that are not alike.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExchangedRuns, findUnlike } from '../../src/explore/checks/alike.ts';
import { exploreProgram } from '../../src/explore/explore.ts';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import { Random } from '../../src/explore/search/random.ts';
import type { Program, Stage } from '../../src/explore/world/program.ts';
import { StepLog } from '../../src/explore/world/step-log.ts';
import { Cell } from '../../src/task/cell.ts';
import { InvariantError } from '../../src/task/lifetime.ts';
import { Mutex } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import type { TaskHandle } from '../../src/task/task-handle.ts';
import { findProgram } from '../../src/verify/catalogue.ts';
import { explore } from '../../src/verify/explore.ts';
import { replacePrivate } from '../../src/verify/mutants/overlay.ts';
import { everyOrder, type ObservableProgram, takeOrder } from './every-order.ts';

const factorial = (n: number): number => (n <= 1 ? 1 : n * factorial(n - 1));

/** The program, with the tasks of these labels declared alike. */
function withAlike(program: Program, isAlike: RegExp): Program {
  return {
    ...program,
    build(stage) {
      const tasks: TaskHandle[] = [];
      const spawn = <T>(label: string, task: Task<T>): TaskHandle<T> => {
        const handle = stage.spawn(label, task);
        if (isAlike.test(label)) tasks.push(handle as TaskHandle);
        return handle;
      };
      program.build(new Proxy(stage, { get: (_, key) => (key === 'spawn' ? spawn : bound(stage, key)) }));
      stage.alike(tasks);
    },
  };
}

function bound(stage: Stage, key: string | symbol): unknown {
  const value = Reflect.get(stage, key);
  return typeof value === 'function' ? value.bind(stage) : value;
}

test('N! fewer orders of the classics', async () => {
  for (const [name, isAlike, size] of [
    ['revoke:2', /^importer/, 2],
    ['revoke:3', /^importer/, 3],
    ['revoke:4', /^importer/, 4],
  ] as const) {
    const program = findProgram(name);
    const all = await exploreProgram(program);
    const { executions, blocked, bug, complete } = await exploreProgram(withAlike(program, isAlike));
    const expected = { executions: all.executions / factorial(size), blocked: 0, bug: null, complete: true };
    assert.deepEqual({ executions, blocked, bug, complete }, expected, name);
  }
  const readers = await exploreProgram(withAlike(findProgram('readers:6'), /^reader/));
  assert.equal(readers.executions, 7, 'readers differ only by how many of them come before the writer');
});

test('N! fewer orders of a revoke against importers, by one thread and by two', async () => {
  for (const size of [2, 3]) {
    const all = await explore({ scenario: `revoke-vs-map:${size}`, everyOrder: true });
    const one = await explore({ scenario: `revoke-vs-map:${size}` });
    const wanted = all.executions / factorial(size);
    assert.deepEqual([one.executions, one.blocked, one.complete], [wanted, 0, true]);
    if (size === 2) continue;
    const two = await explore({ scenario: `revoke-vs-map:${size}`, workers: 2 });
    assert.deepEqual([two.executions, two.steps], [one.executions, one.steps]);
  }
});

/** Tasks with the same random actions on shared objects and one of their own, and another task. */
class AlikeProgram implements ObservableProgram {
  readonly name: string;
  readonly summary = '';
  readonly looked = [];
  readonly size: number;
  private readonly actions: readonly number[];
  private readonly others: readonly number[];
  private readonly locksFirst: boolean;

  constructor(seed: number, locksFirst: boolean) {
    const random = new Random(seed);
    const draw = (count: number): number[] => Array.from({ length: count }, () => random.below(7));
    this.name = `alike ${seed}`;
    this.size = 2 + random.below(2);
    this.actions = draw(this.size === 2 ? 3 : 1);
    this.others = draw(2);
    this.locksFirst = locksFirst;
  }

  build(stage: Stage): void {
    const shared = { lock: new Mutex({ name: 'lock' }), x: new Cell('x', 0), y: new Cell('y', 0) };
    const tasks = Array.from({ length: this.size }, (_, i) =>
      stage.spawn(`twin${i}`, this.run(this.actions, { ...shared, own: new Cell(`own${i}`, 0) }, this.locksFirst)),
    );
    stage.spawn('other', this.run(this.others, { ...shared, own: shared.y }, false));
    stage.alike(tasks);
  }

  outcome(): string {
    return '';
  }

  takeChanged(): readonly string[] {
    return [];
  }

  seen(): readonly string[] {
    return [];
  }

  private *run(actions: readonly number[], set: Objects, locksFirst: boolean): Task {
    if (locksFirst) {
      yield* set.lock.lock();
      yield* set.lock.unlock();
    }
    let value = 0;
    for (const action of actions) {
      if (action === 0) value += yield* set.x.load();
      else if (action === 1) yield* set.x.store(value + 1);
      else if (action === 2) yield* set.y.update((before) => before + 1);
      else if (action === 3) value += (yield* set.x.compareExchange(0, 1)) ? 1 : 0;
      else if (action === 4) yield* set.own.store(value);
      else if (action === 5) value += yield* set.y.load();
      else if (yield* set.lock.tryLock()) yield* set.lock.unlock();
    }
  }
}

interface Objects {
  lock: Mutex;
  x: Cell<number>;
  y: Cell<number>;
  own: Cell<number>;
}

/** All orders of some numbers. */
function permutations(numbers: readonly number[]): number[][] {
  if (numbers.length <= 1) return [[...numbers]];
  return numbers.flatMap((one) => permutations(numbers.filter((n) => n !== one)).map((rest) => [one, ...rest]));
}

/** The schedules that a search takes. */
function schedulesOf(program: Program, optimal: boolean): number[][] {
  const search = new DporSearch(program, optimal);
  const schedules: number[][] = [];
  const open = search as unknown as { ended(_: unknown, schedule: ArrayLike<number>, length: number): boolean };
  open.ended = (_, schedule, length) => {
    search.totals.executions += 1;
    schedules.push(Array.from({ length }, (_, i) => schedule[i]));
    return false;
  };
  while (search.advance(1000) === 'more') {}
  assert.equal(optimal ? search.totals.blocked : 0, 0, program.name);
  return schedules;
}

/** Whether the search's schedules, with all exchanges, are all classes of orders. */
function coversAll(program: AlikeProgram, optimal: boolean, all: ReadonlySet<string>, isFree: boolean): boolean {
  const schedules = schedulesOf(program, optimal);
  const twins = Array.from({ length: program.size }, (_, i) => i);
  const forms = new Set<string>();
  for (const schedule of schedules) {
    for (const exchange of permutations(twins)) {
      const order = schedule.map((task) => exchange[task] ?? task);
      forms.add(takeOrder(program, (_, depth) => order[depth] ?? -1).form);
    }
  }
  if (isFree && optimal && schedules.length !== all.size / factorial(program.size)) return false;
  return forms.size === all.size && [...forms].every((form) => all.has(form));
}

/** Tries random programs until one is not covered. */
function coversRandom(programs: number): boolean {
  for (let seed = 1; seed <= programs; seed++) {
    const locksFirst = seed % 2 === 0;
    const program = new AlikeProgram(seed, locksFirst);
    assert.equal(findUnlike(program), null, program.name);
    const all = everyOrder(program, 600);
    if (all === null) continue;
    if (!coversAll(program, true, all.forms, locksFirst)) return false;
    if (!coversAll(program, false, all.forms, locksFirst)) return false;
  }
  return true;
}

test('random alike tasks: every order or its exchange, and N! fewer where first steps exclude each other', () => {
  assert.ok(coversRandom(process.env.BARTER_FULL === '1' ? 2000 : 30));
});

test('a search that forgets which first steps come before which is noticed', () => {
  const { take } = StepLog.prototype as unknown as { take(...args: never[]): void };
  const undo = replacePrivate<{ spawnOf: Int32Array; released: number[]; length: number }>(
    StepLog.prototype,
    'take',
    function (...args) {
      take.apply(this, args);
      const released = this.released[this.length - 1];
      if (released >= 0) this.spawnOf[released] = -1;
    },
  );
  try {
    let holds = true;
    try {
      holds = coversRandom(30);
    } catch {
      holds = false;
    }
    assert.equal(holds, false);
  } finally {
    undo();
  }
});

const program = (name: string, build: (stage: Stage) => void): Program => ({ name, summary: '', build });

/** Programs whose tasks are declared alike and are not, by what is different. */
const UNLIKE: Record<string, Program> = {
  kinds: program('kinds', (stage) => {
    const [lock, x] = [new Mutex({ name: 'lock' }), new Cell('x', 0)];
    stage.alike([stage.spawn('a', lock.lock()), stage.spawn('b', x.store(1))]);
  }),
  objects: program('objects', (stage) => {
    const [x, y] = [new Cell('x', 0), new Cell('y', 0)];
    stage.spawn('c', x.store(1));
    stage.alike([stage.spawn('a', x.store(1)), stage.spawn('b', y.store(1))]);
  }),
  results: program('results', (stage) => {
    const x = new Cell('x', 0);
    stage.alike(
      [1, 2].map((n) =>
        stage.spawn(
          `${n}`,
          x.loadFor((value) => value + n),
        ),
      ),
    );
  }),
  changes: program('changes', (stage) => {
    const cells = [0, 1].map((value) => new Cell('x', value));
    stage.alike(
      cells.map((cell, i) =>
        stage.spawn(
          `${i}`,
          cell.update(() => 1),
        ),
      ),
    );
  }),
  lengths: program('lengths', (stage) => {
    const x = new Cell('x', 0);
    const twice = function* (): Task {
      yield* x.store(1);
      yield* x.store(1);
    };
    stage.alike([stage.spawn('a', x.store(1)), stage.spawn('b', twice())]);
  }),
  guards: program('guards', (stage) => {
    const cells = [0, 1].map((value) => new Cell('x', value));
    stage.alike(
      cells.map((cell, i) =>
        stage.spawn(
          `${i}`,
          cell.waitUntil((value) => value === 1),
        ),
      ),
    );
  }),
  'the order in which another task visits them': program('visits', (stage) => {
    const cells = [0, 1].map((i) => new Cell(`own${i}`, 0));
    stage.spawn(
      'visitor',
      (function* (): Task {
        for (const cell of cells) yield* cell.store(1);
      })(),
    );
    stage.alike(cells.map((cell, i) => stage.spawn(`${i}`, cell.load()) as TaskHandle));
  }),
  invariants: program('invariants', (stage) => {
    const [x, seen] = [new Cell('x', 0), [0, 0]];
    const look = function* (i: number): Task {
      yield* x.loadFor((value) => {
        seen[i] = value;
      });
    };
    stage.spawn('c', x.store(1));
    stage.alike([0, 1].map((i) => stage.spawn(`${i}`, look(i))));
    stage.atEnd(() => {
      if (seen[0] < seen[1]) throw new InvariantError('I1', 'the first saw less than the second');
    });
  }),
};

/** The programs that are not refused. */
const accepted = (): string[] => Object.keys(UNLIKE).filter((what) => findUnlike(UNLIKE[what]) === null);

test('tasks that are not alike are named', async () => {
  assert.deepEqual(accepted(), []);
  const { bug, complete } = await exploreProgram(UNLIKE.kinds);
  assert.equal(bug?.invariant, 'symmetry');
  assert.match(bug.message, /^tasks that are declared alike are not: step 0, of [ab] and [ab], is \((lock|write)/);
  assert.equal(complete, false);
});

test('a check that leaves something out is noticed', () => {
  for (const part of ['isReady', 'haveSameKind', 'pair', 'isSame', 'end']) {
    const undo = replacePrivate<object>(ExchangedRuns.prototype, part, () => (part === 'end' ? null : true));
    const wrongly = accepted();
    undo();
    assert.notDeepEqual(wrongly, [], part);
  }
});
