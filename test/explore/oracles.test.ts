/** A tiny program for each oracle that trips it and no other oracle. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram, type FoundBug } from '../../src/explore/explore.ts';
import type { Program, Stage } from '../../src/explore/world/program.ts';
import { show } from '../../src/explore/world/schedule.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { InvariantError, Lifetime } from '../../src/task/lifetime.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Plain } from '../../src/task/plain.ts';
import { Refcount } from '../../src/task/refcount.ts';
import { spawn } from '../../src/task/runner.ts';

function program(build: (stage: Stage) => void): Program {
  return { name: 'tiny', summary: '', build };
}

async function bugOf(build: (stage: Stage) => void): Promise<FoundBug | null> {
  const { bug, complete } = await exploreProgram(program(build));
  assert.ok(bug !== null || complete);
  return bug;
}

async function assertBug(invariant: string, message: RegExp, build: (stage: Stage) => void): Promise<FoundBug> {
  const bug = await bugOf(build);
  assert.ok(bug !== null, 'nothing was found');
  assert.equal(bug.invariant, invariant, bug.message);
  assert.match(bug.message, message);
  return bug;
}

const A = { name: 'a' };
const B = { name: 'b' };

test('a deadlock names who holds and who waits where', async () => {
  await assertBug('I4', /^deadlock: one waits at lock b, held by two; two waits at lock a, held by one$/, (stage) => {
    const [a, b] = [new Mutex(A), new Mutex(B)];
    stage.spawn('one', both(a, b));
    stage.spawn('two', both(b, a));
  });
});

function* both(first: Mutex, second: Mutex): Task {
  yield* first.lock();
  yield* second.lock();
  yield* second.unlock();
  yield* first.unlock();
}

test('a lock-order cycle is found though no run deadlocks, with a witness of each edge and a run that has both', async () => {
  const bug = await assertBug(
    'I4',
    /a > b > a .*one takes b while it holds a.*two takes a while it holds b/,
    (stage) => {
      const [a, b] = [new Mutex(A), new Mutex(B)];
      const one = stage.spawn('one', both(a, b));
      stage.spawn(
        'two',
        (function* () {
          yield* one.join();
          yield* both(b, a);
        })(),
      );
    },
  );
  assert.deepEqual([...new Set(bug.schedule)], ['one', 'two']);
});

test('the witness of a lock cycle can be taken again where children start in another order', async () => {
  const build = (stage: Stage): void => {
    const [a, b, x, done] = [new Mutex(A), new Mutex(B), new Cell('x', 0), new Completion('done')];
    const one = function* (isSecond: boolean): Task {
      if (isSecond) yield* both(a, b);
      yield* done.complete();
    };
    const two = function* (): Task {
      yield* done.wait();
      yield* both(b, a);
    };
    stage.spawn(
      'first',
      (function* () {
        const isSecond = (yield* x.load()) === 1;
        yield* spawn('first child', one(isSecond));
      })(),
    );
    stage.spawn(
      'second',
      (function* () {
        yield* spawn('second child', two());
        yield* x.store(1);
      })(),
    );
  };
  const { steps } = await assertBug('I4', /a > b > a/, build);
  assert.equal(show(program(build), steps).finding?.invariant, 'I4');
});

test('locks that are taken both ways, but only behind a gate, are not a cycle; readers of the gate are', async () => {
  const behind = (isRead: boolean, gates: 1 | 2) => (stage: Stage) => {
    const all = [new RwSemaphore({ name: 'gate' }), new RwSemaphore({ name: 'other gate' })];
    const [a, b] = [new Mutex(A), new Mutex(B)];
    const through = function* (gate: RwSemaphore, first: Mutex, second: Mutex): Task {
      yield* isRead ? gate.read() : gate.write();
      yield* both(first, second);
      yield* isRead ? gate.releaseRead() : gate.releaseWrite();
    };
    const one = stage.spawn('one', through(all[0], a, b));
    stage.spawn(
      'two',
      (function* () {
        yield* one.join();
        yield* through(all[gates - 1], b, a);
      })(),
    );
  };
  assert.equal(await bugOf(behind(false, 1)), null);
  await assertBug('I4', /lock order has a cycle: a > b > a/, behind(false, 2));
  await assertBug('I4', /lock order has a cycle: a > b > a/, behind(true, 1));
});

test('locks of one class that may nest are not a cycle', async () => {
  const bug = await bugOf((stage) => {
    const nested = { name: 'nested', nestable: true };
    const [a, b] = [new Mutex(nested, 'first'), new Mutex(nested, 'second')];
    stage.spawn('one', both(a, b));
  });
  assert.equal(bug, null);
});

test('a lock that its holder never lets go of', async () => {
  await assertBug('I4', /^never let go: a, held for read by reader$/, (stage) => {
    const lock = new RwSemaphore(A);
    stage.spawn('reader', lock.read());
  });
});

test('a lock held while waiting for what nobody will bring is held without bound', async () => {
  await assertBug('I7', /^held without bound: holder holds a; holder waits at wait fence, now not done/, (stage) => {
    const lock = new Mutex(A);
    const fence = new Completion('fence');
    stage.spawn(
      'holder',
      (function* () {
        yield* lock.lock();
        yield* fence.wait();
        yield* lock.unlock();
      })(),
    );
    stage.spawn('other', both(lock, new Mutex(B)));
  });
});

const spin = (stage: Stage): void => {
  const [flag, other] = [new Cell('flag', false), new Cell('other', 0)];
  stage.spawn(
    'spinner',
    (function* () {
      yield* other.store(1);
      while (!(yield* flag.load())) yield* other.load();
    })(),
  );
};

test('a livelock is told in its shortest loop, by every search that takes whole orders', async () => {
  for (const algorithm of ['optimal', 'source', 'dfs', 'stateful', 'random', 'pct', 'pos'] as const) {
    const tiny = program((stage) => {
      stage.comparesBy(() => []);
      spin(stage);
    });
    const { bug } = await exploreProgram(tiny, { algorithm, maxSteps: 500 });
    assert.equal(bug?.invariant, 'I7', algorithm);
    assert.equal(
      bug.message,
      'livelock: 2 steps repeat for ever: spinner: read flag, now false; spinner: read other, now 1',
      algorithm,
    );
    assert.equal(bug.steps.length, 5, algorithm);
    const { finding, failsAt } = show(tiny, bug.steps);
    assert.deepEqual([finding?.message, failsAt], [bug.message, [3, 4]], algorithm);
  }
});

test('a livelock says that others could go on, and 20,000 steps of it take no time', async () => {
  const start = performance.now();
  const bug = await assertBug('I7', /^livelock: 1 step repeats .*; setter could go on meanwhile/, (stage) => {
    const flag = new Cell('flag', false);
    stage.spawn('spinner', spinOn(flag));
    stage.spawn('setter', flag.store(true));
  });
  assert.deepEqual(bug.schedule, ['spinner', 'spinner']);
  assert.ok(performance.now() - start < 10_000);
});

function* spinOn(flag: Cell<boolean>): Task {
  while (!(yield* flag.load()));
}

test('work without an end that repeats nothing is told, too', async () => {
  const tiny = program((stage) => {
    const count = new Cell('count', 0);
    stage.spawn(
      'counter',
      (function* (): Task {
        for (;;) yield* count.update((value) => value + 1);
      })(),
    );
  });
  const { bug } = await exploreProgram(tiny, { maxSteps: 300 });
  assert.match(bug!.message, /^a run of more than 300 steps that repeats nothing/);
});

test('a program that is not deterministic is named with the step and both values', async () => {
  let builds = 0;
  const value = program((stage) => {
    builds += 1;
    const cell = new Cell('seen', builds);
    stage.spawn('reader', cell.load() as Task);
  });
  assert.match(
    (await exploreProgram(value)).bug!.message,
    /^the program is not deterministic: step 0, the one of reader, \(read seen\) found 1 in one run, and 2 in another$/,
  );
  let runs = 0;
  const late = program((stage) => {
    runs += 1;
    const mine = runs;
    const cells = ['a', 'b'].map((label) => new Cell(label, 0));
    const task = function* (cell: Cell<number>, other: Cell<number>): Task {
      // The first four runs are the same.
      if (mine > 4) yield* cell.load();
      yield* cell.store(1);
      yield* other.load();
      yield* other.load();
    };
    stage.spawn('one', task(cells[0], cells[1]));
    stage.spawn('two', task(cells[1], cells[0]));
  });
  const { bug } = await exploreProgram(late);
  assert.equal(bug?.invariant, 'determinism');
  assert.match(bug.message, /^the program is not deterministic: step \d+, the one of (one|two), /);
});

test('a touch of the freed', async () => {
  await assertBug('I5', /read field after thing was freed/, (stage) => {
    const thing = new Lifetime('thing');
    const field = new Cell('field', 0, thing);
    stage.spawn(
      'user',
      (function* () {
        thing.end();
        yield* field.load();
      })(),
    );
  });
});

test('a use that nothing orders with the freeing, though it came first in every run that was needed', async () => {
  await assertBug('I5', /^use after free: user uses thing .* and owner frees it .*nothing orders the two$/, (stage) => {
    const thing = new Lifetime('thing');
    const [mine, yours] = [new Cell('mine', 0), new Cell('yours', 0)];
    stage.spawn(
      'user',
      (function* () {
        yield* mine.store(1);
        thing.check('look');
      })(),
    );
    stage.spawn(
      'owner',
      (function* () {
        yield* yours.store(1);
        thing.end();
      })(),
    );
  });
});

test('a thing freed twice, and a thing never freed, with the places', async () => {
  await assertBug('I3', /thing is freed twice/, (stage) => {
    const thing = new Lifetime('thing');
    const count = new Cell('gate', 0);
    const free = function* (): Task {
      yield* count.update((value) => value + 1);
      thing.end();
    };
    stage.spawn('one', free());
    stage.spawn('two', free());
  });
  const leak = program((stage) => {
    stage.spawn(
      'maker',
      (function* () {
        yield* new Cell('step', 0).load();
        new Lifetime('thing');
      })(),
    );
  });
  const { bug } = await exploreProgram(leak);
  assert.equal(bug?.invariant, 'I3');
  assert.match(bug!.message, /^never freed: thing \(made at step 0\)$/);
  const [history] = show(leak, bug!.steps).histories;
  assert.deepEqual([history.label, history.events.length], ['thing', 1]);
  assert.deepEqual([history.events[0].task, history.events[0].what, history.events[0].step], ['maker', 'made', 0]);
  assert.match(history.events[0].stack[0], /test\/explore\/oracles\.test\.ts:\d+$/);
});

test('a reference count that underflows tells who took and who dropped', async () => {
  const build = program((stage) => {
    const count = new Refcount('users', 1);
    const drop = function* (): Task {
      yield* count.put();
    };
    stage.spawn('one', drop());
    stage.spawn('two', drop());
  });
  const { bug } = await exploreProgram(build);
  assert.equal(bug?.invariant, 'I3');
  assert.match(bug!.message, /users is put more often than it was taken/);
  const [history] = show(build, bug!.steps).histories;
  assert.deepEqual(
    history.events.map(({ what }) => what),
    ['1 to 0', '0 to 0'],
  );
});

test('a field that is touched without its lock is a data race; with it, or handed over, it is none', async () => {
  const build = (takes: boolean) => (stage: Stage) => {
    const lock = new Mutex(A);
    const field = new Plain('field', 0);
    const touch = function* (locked: boolean): Task {
      if (locked) yield* lock.lock();
      else yield* new Cell('unrelated', 0).load();
      field.set(field.get() + 1);
      if (locked) yield* lock.unlock();
    };
    stage.spawn('one', touch(true));
    stage.spawn('two', touch(takes));
  };
  await assertBug('race', /^data race: .* field .* and .*, and nothing orders the two$/, build(false));
  assert.equal(await bugOf(build(true)), null);
  const handedOver = await bugOf((stage) => {
    const field = new Plain('field', 0);
    const done = new Completion('done');
    stage.spawn(
      'one',
      (function* () {
        field.set(1);
        yield* done.complete();
      })(),
    );
    stage.spawn(
      'two',
      (function* () {
        yield* done.wait();
        field.set(2);
      })(),
    );
  });
  assert.equal(handedOver, null);
});

test("a cell's plain value races with stores; its loads do not", async () => {
  const reader = (cell: Cell<number>, plainly: boolean) =>
    function* (): Task {
      yield* new Cell('unrelated', 0).load();
      if (plainly) assert.ok(cell.value >= 0);
      else yield* cell.load();
    };
  const build = (plainly: boolean) => (stage: Stage) => {
    const cell = new Cell('flag', 0);
    // Both programs touch the cell without a step, so the log looks at it at all.
    assert.equal(cell.value, 0);
    stage.spawn('writer', cell.store(1));
    stage.spawn('reader', reader(cell, plainly)());
  };
  await assertBug('race', /^data race: .*flag/, build(true));
  assert.equal(await bugOf(build(false)), null);
});

test('a child does not race with what its parent did before, nor with what comes after the join', async () => {
  const bug = await bugOf((stage) => {
    const field = new Plain('field', 0);
    stage.spawn(
      'parent',
      (function* () {
        field.set(1);
        const child = yield* spawn(
          'child',
          (function* () {
            field.set(2);
          })(),
        );
        yield* child.join();
        field.set(3);
      })(),
    );
  });
  assert.equal(bug, null);
});

test('a task that throws, and a check at the end that fails', async () => {
  await assertBug('error', /task one threw: TypeError: no/, (stage) => {
    stage.spawn(
      'one',
      (function* (): Task {
        yield* new Cell('c', 0).load();
        throw new TypeError('no');
      })(),
    );
  });
  await assertBug('I6', /never told/, (stage) => {
    stage.spawn('one', new Cell('c', 0).load());
    stage.atEnd(() => {
      throw new InvariantError('I6', 'never told');
    });
  });
});

test('a cycle of three locks, no two of which are ever taken both ways', async () => {
  const C = { name: 'c' };
  await assertBug('I4', /^lock order has a cycle: \w > \w > \w > \w \(/, (stage) => {
    const [a, b, c] = [new Mutex(A), new Mutex(B), new Mutex(C)];
    const one = stage.spawn('one', both(a, b));
    const two = stage.spawn(
      'two',
      (function* () {
        yield* one.join();
        yield* both(b, c);
      })(),
    );
    stage.spawn(
      'three',
      (function* () {
        yield* two.join();
        yield* both(c, a);
      })(),
    );
  });
});
