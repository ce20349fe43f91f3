/** A wait in production is a wait under the explorer: fair queues, required wake-ups, changes in place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import type { Algorithm } from '../../src/explore/spec.ts';
import type { Program, Stage } from '../../src/explore/world/program.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Plain } from '../../src/task/plain.ts';
import { WaitQueue } from '../../src/task/wait-queue.ts';

const ALGORITHMS: readonly Algorithm[] = ['optimal', 'source', 'dfs', 'stateful', 'random'];

/** Builds a program. `shared` returns its state beside the objects of task/. */
function program(build: (stage: Stage) => void, shared: () => unknown[] = () => []): Program {
  return {
    name: 'queues',
    summary: '',
    build(stage) {
      build(stage);
      stage.comparesBy(shared);
    },
  };
}

async function assertBug(tried: Program, invariant: string, message: RegExp): Promise<void> {
  for (const algorithm of ALGORITHMS) {
    const { bug } = await exploreProgram(tried, { algorithm });
    assert.equal(bug?.invariant, invariant, algorithm);
    assert.match(bug.message, message, algorithm);
  }
}

async function assertNone(tried: Program): Promise<void> {
  for (const algorithm of ALGORITHMS) {
    const { bug, blocked, complete } = await exploreProgram(tried, { algorithm });
    assert.equal(bug, null, algorithm);
    if (algorithm === 'optimal') assert.deepEqual([blocked, complete], [0, true]);
  }
}

function* readAndWait(sem: RwSemaphore, other: Completion): Task {
  yield* sem.read();
  yield* other.wait();
  yield* sem.releaseRead();
}

function* readAndComplete(sem: RwSemaphore, other: Completion): Task {
  yield* sem.read();
  yield* sem.releaseRead();
  yield* other.complete();
}

function* write(sem: RwSemaphore): Task {
  yield* sem.write();
  yield* sem.releaseWrite();
}

function* readTwice(sem: RwSemaphore, inner: RwSemaphore): Task {
  yield* sem.read();
  yield* inner.read();
  yield* inner.releaseRead();
  yield* sem.releaseRead();
}

test('a reader that another reader waits for queues behind a writer', async () => {
  const tried = program((stage) => {
    const sem = new RwSemaphore({ name: 'sem' });
    const done = new Completion('done');
    stage.spawn('A', readAndWait(sem, done));
    stage.spawn('W', write(sem));
    stage.spawn('B', readAndComplete(sem, done));
  });
  await assertBug(tried, 'I7', /B waits at read-lock sem, held for read by A, behind W, which waits to write/);
});

test('without the writer, or with a reader that only tries, nobody waits for ever', async () => {
  await assertNone(
    program((stage) => {
      const sem = new RwSemaphore({ name: 'sem' });
      const done = new Completion('done');
      stage.spawn('A', readAndWait(sem, done));
      stage.spawn('B', readAndComplete(sem, done));
    }),
  );
  function* tryAndComplete(sem: RwSemaphore, other: Completion): Task {
    if (yield* sem.tryRead()) yield* sem.releaseRead();
    yield* other.complete();
  }
  await assertNone(
    program((stage) => {
      const sem = new RwSemaphore({ name: 'sem' });
      const done = new Completion('done');
      stage.spawn('A', readAndWait(sem, done));
      stage.spawn('W', write(sem));
      stage.spawn('B', tryAndComplete(sem, done));
    }),
  );
});

test('a reader that reads again queues behind a writer that came between', async () => {
  const tried = program((stage) => {
    const sem = new RwSemaphore({ name: 'sem', nestable: true });
    stage.spawn('A', readTwice(sem, sem));
    stage.spawn('W', write(sem));
  });
  await assertBug(tried, 'I4', /deadlock: A waits at read-lock sem, held for read by A, behind W/);
});

test('two readers, each behind the writer of what the other holds', async () => {
  const tried = program((stage) => {
    const lockClass = { name: 'sem', nestable: true };
    const first = new RwSemaphore(lockClass, 'first');
    const second = new RwSemaphore(lockClass, 'second');
    stage.spawn('A', readTwice(first, second));
    stage.spawn('B', readTwice(second, first));
    stage.spawn('V', write(first));
    stage.spawn('W', write(second));
  });
  await assertBug(tried, 'I4', /A waits at read-lock second.*behind W.*B waits at read-lock first.*behind V/);
});

test('the schedule of such a state is the shortest, and can be replayed', async () => {
  const tried = program((stage) => {
    const sem = new RwSemaphore({ name: 'sem' });
    const done = new Completion('done');
    stage.spawn('W', write(sem));
    stage.spawn('B', readAndComplete(sem, done));
    stage.spawn('A', readAndWait(sem, done));
  });
  const { bug } = await exploreProgram(tried);
  assert.deepEqual(bug?.schedule, ['A']);
  assert.equal(bug.preemptions, 0);
});

/** A flag under a mutex, and a queue of tasks that wait for it. */
class Flag {
  readonly mutex = new Mutex({ name: 'mutex' });
  readonly queue = new WaitQueue('queue');
  readonly isSet = new Plain('flag', false);

  *set(wakes: boolean): Task {
    yield* this.mutex.lock();
    this.isSet.set(true);
    yield* this.mutex.unlock();
    if (wakes) yield* this.queue.wake();
  }

  *setAfterWake(): Task {
    yield* this.queue.wake();
    yield* this.set(false);
  }

  wait(): Task {
    return this.queue.waitUntil(() => this.isSet.get());
  }
}

function flagProgram(set: (flag: Flag) => Task): Program {
  let flag: Flag;
  return program(
    (stage) => {
      flag = new Flag();
      stage.spawn('waiter', flag.wait());
      stage.spawn('setter', set(flag));
    },
    () => [flag.isSet.get()],
  );
}

test('a wake that never comes is a lost wake-up', async () => {
  await assertBug(
    flagProgram((flag) => flag.set(false)),
    'I4',
    /lost wake-up: waiter waits at queue .*; nobody ever woke queue/,
  );
});

test('a wake that comes before the change is a lost wake-up, and is named', async () => {
  await assertBug(
    flagProgram((flag) => flag.setAfterWake()),
    'I4',
    /lost wake-up: waiter waits at queue .* holds; setter woke queue before it held/,
  );
});

test('a wake after the change is enough', async () => {
  await assertNone(flagProgram((flag) => flag.set(true)));
});

test('cells changed in place wake those who wait for what is in them', async () => {
  function* add(cell: Cell<Set<number>>, value: number): Task {
    yield* cell.changeFor((set) => void set.add(value));
  }
  function* remove(cell: Cell<Set<number>>, value: number): Task {
    yield* cell.changeFor((set) => void set.delete(value));
  }
  await assertNone(
    program((stage) => {
      const cell = new Cell('set', new Set<number>());
      stage.spawn(
        'waiter',
        cell.waitUntil((set) => set.size === 2),
      );
      stage.spawn('one', add(cell, 1));
      stage.spawn('two', add(cell, 2));
    }),
  );
  await assertBug(
    program((stage) => {
      const cell = new Cell('set', new Set<number>());
      stage.spawn(
        'waiter',
        cell.waitUntil((set) => set.has(1)),
      );
      stage.spawn('adder', add(cell, 1));
      stage.spawn('remover', remove(cell, 1));
    }),
    'I4',
    /deadlock: waiter waits at wait set, now \{\}/,
  );
});
