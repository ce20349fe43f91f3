/** One program for each fault that the explorer once had, written against the public interface. */
import {
  Cell,
  Completion,
  InvariantError,
  Mutex,
  Plain,
  type Program,
  RwSemaphore,
  type Stage,
  type Task,
  WaitQueue,
} from 'barter';

const program = (name: string, build: (stage: Stage) => void): Program => ({ name, summary: '', build });

/** A failed trylock reads the lock's state: the reader may come before it, and then sees 0. */
export const failedTry = program('failed-try', (stage) => {
  const [rw, x] = [new RwSemaphore({ name: 'rw' }), new Cell('x', 0)];
  stage.spawn(
    'prober',
    (function* (): Task {
      yield* rw.read();
      yield* x.store(1);
      if (yield* rw.tryWrite()) yield* rw.releaseWrite();
      yield* rw.releaseRead();
    })(),
  );
  stage.spawn(
    'reader',
    (function* (): Task {
      yield* rw.read();
      const seen = yield* x.load();
      yield* rw.releaseRead();
      if (seen === 0) throw new InvariantError('I1', 'the reader saw 0');
    })(),
  );
});

/** The reader comes before the closer, and before the writer. */
export const secondStep = program('second-step', (stage) => {
  const [x, y, own] = [new Cell('x', 0), new Cell('y', 0), new Cell('own', 0)];
  stage.spawn(
    'closer',
    (function* (): Task {
      yield* x.store(1);
      yield* own.store(1);
    })(),
  );
  stage.spawn('writer', y.store(1));
  stage.spawn(
    'reader',
    (function* (): Task {
      if ((yield* x.load()) === 0 && (yield* y.load()) === 0) throw new InvariantError('I1', 'the reader saw 0');
    })(),
  );
});

function* blink(cell: Cell<number>): Task {
  yield* cell.store(1);
  yield* cell.store(0);
}

/** A state between two commuting steps. */
export const twoCells = program('two-cells', (stage) => {
  const [x, y] = [new Cell('x', 0), new Cell('y', 0)];
  stage.spawn('a', blink(x));
  stage.spawn('b', blink(y));
  stage.afterEach(() => {
    if (x.value === 1 && y.value === 1) throw new InvariantError('I1', 'both are 1');
  });
});

/** A state between two locks, which only touches of a plain field lead to. */
export const betweenLocks = program('between-locks', (stage) => {
  const [lock, field] = [new Mutex({ name: 'lock' }), new Plain('field', 0)];
  stage.spawn(
    'a',
    (function* (): Task {
      yield* lock.lock();
      field.set(1);
      yield* lock.unlock();
      field.set(0);
    })(),
  );
  stage.afterEach(() => {
    if (field.get() === 1) throw new InvariantError('I1', 'the field is 1');
  });
});

/** A wake-up that never comes: production hangs. */
export const forgottenWake = program('forgotten-wake', (stage) => {
  const [queue, lock, flag] = [new WaitQueue('queue'), new Mutex({ name: 'lock' }), new Cell('flag', false)];
  stage.spawn(
    'waiter',
    queue.waitUntil(() => flag.value),
  );
  stage.spawn(
    'setter',
    (function* (): Task {
      yield* lock.lock();
      yield* flag.store(true);
      yield* lock.unlock();
    })(),
  );
});

/** With a writer in the queue of a fair semaphore, the second reader waits. */
export const fairQueue = program('fair-queue', (stage) => {
  const [rw, came] = [new RwSemaphore({ name: 'rw' }), new Completion('came')];
  stage.spawn(
    'first',
    (function* (): Task {
      yield* rw.read();
      yield* came.wait();
      yield* rw.releaseRead();
    })(),
  );
  stage.spawn(
    'writer',
    (function* (): Task {
      yield* rw.write();
      yield* rw.releaseWrite();
    })(),
  );
  stage.spawn(
    'second',
    (function* (): Task {
      yield* rw.read();
      yield* came.complete();
      yield* rw.releaseRead();
    })(),
  );
});

/** A value that is changed in place while a task waits for it. */
export const inPlace = program('in-place', (stage) => {
  const list = new Cell<string[]>('list', []);
  stage.spawn(
    'waiter',
    (function* (): Task {
      yield* list.waitUntil((now) => now.length === 2);
      throw new InvariantError('I1', 'two came');
    })(),
  );
  for (const name of ['one', 'two']) {
    stage.spawn(
      name,
      list.changeFor((now) => {
        now.push(name);
      }),
    );
  }
});

/** One preemption shows the bug. On the way to it, another invariant breaks. */
export const anotherFirst = program('another-first', (stage) => {
  const cells = ['a', 'b', 'c', 'd'].map((label) => new Cell(label, 0));
  const seen: number[] = [];
  stage.spawn(
    'writer',
    (function* (): Task {
      for (const cell of cells) yield* cell.store(1);
    })(),
  );
  stage.spawn(
    'reader',
    (function* (): Task {
      for (const cell of cells) seen.push(yield* cell.load());
    })(),
  );
  stage.atEnd(() => {
    if (seen.join('') === '0000') throw new InvariantError('I2', 'the reader came first');
    if (seen[0] === 0 && seen[3] === 1) throw new InvariantError('I1', 'the reader was overtaken');
  });
});

/** A loop that never ends. */
export const spinner = program('spinner', (stage) => {
  const flag = new Cell('flag', false);
  stage.spawn(
    'spinner',
    (function* (): Task {
      while (!(yield* flag.load()));
    })(),
  );
});

/** A program whose runs differ. */
export const random = program('random', (stage) => {
  const dice = new Cell('dice', Math.random());
  stage.spawn(
    'player',
    (function* (): Task {
      yield* dice.load();
    })(),
  );
});

/** A timeline must show an object in a cell by its content. */
export const object = program('object', (stage) => {
  const cell = new Cell<{ owner: string | null }>('state', { owner: null });
  stage.spawn(
    'owner',
    (function* (): Task {
      yield* cell.store({ owner: 'me' });
      throw new InvariantError('I1', 'taken');
    })(),
  );
});

/** Both orders of two locks, but only under a third lock. */
export const gate = program('gate', (stage) => {
  const [outer, a, b] = ['gate', 'a', 'b'].map((name) => new Mutex({ name }));
  const through = function* (first: Mutex, second: Mutex): Task {
    yield* outer.lock();
    yield* first.lock();
    yield* second.lock();
    yield* second.unlock();
    yield* first.unlock();
    yield* outer.unlock();
  };
  stage.spawn('one', through(a, b));
  stage.spawn('two', through(b, a));
});

/** Two tasks touch a field without a lock. The invariant never looks at it. */
export const unguarded = program('unguarded', (stage) => {
  const [field, other] = [new Plain('field', 0), new Cell('other', 0)];
  for (const name of ['one', 'two']) {
    stage.spawn(
      name,
      (function* (): Task {
        yield* new Cell('own', 0).load();
        field.set(1);
      })(),
    );
  }
  stage.afterEach(() => {
    if (other.value !== 0) throw new InvariantError('I1', 'never');
  });
});
