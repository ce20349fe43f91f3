/** After the end of a lifetime, every operation on every primitive is refused, in production and under the explorer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exploreProgram } from '../../src/explore/explore.ts';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { type InvariantError, Lifetime } from '../../src/task/lifetime.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Refcount } from '../../src/task/refcount.ts';
import { Runner } from '../../src/task/runner.ts';
import { WaitQueue } from '../../src/task/wait-queue.ts';

const always = (): boolean => true;
const never = (): boolean => false;
const lockClass = { name: 'lock' };

/** Makes a primitive. Lists its operations by name: tasks, and accesses that are not steps. */
interface Primitive {
  name: string;
  make(lifetime: Lifetime): object;
  operations: Record<string, (object: never) => Task<unknown> | unknown>;
}

function primitive<S extends object>(
  name: string,
  make: (lifetime: Lifetime) => S,
  operations: Record<string, (object: S) => unknown>,
): Primitive {
  return { name, make, operations: operations as Primitive['operations'] };
}

const PRIMITIVES: Primitive[] = [
  primitive('Mutex', (lifetime) => new Mutex(lockClass, 'lock', lifetime), {
    lock: (mutex) => mutex.lock(),
    tryLock: (mutex) => mutex.tryLock(),
    unlock: (mutex) => mutex.unlock(),
    assertHeld: (mutex) => mutex.assertHeld(),
  }),
  primitive('RwSemaphore', (lifetime) => new RwSemaphore(lockClass, 'lock', lifetime), {
    read: (sem) => sem.read(),
    write: (sem) => sem.write(),
    tryRead: (sem) => sem.tryRead(),
    tryWrite: (sem) => sem.tryWrite(),
    releaseRead: (sem) => sem.releaseRead(),
    releaseWrite: (sem) => sem.releaseWrite(),
    assertHeld: (sem) => sem.assertHeld(),
    assertHeldWrite: (sem) => sem.assertHeldWrite(),
  }),
  primitive('Cell', (lifetime) => new Cell('cell', 0, lifetime), {
    value: (cell) => cell.value,
    load: (cell) => cell.load(),
    loadFor: (cell) => cell.loadFor(always),
    store: (cell) => cell.store(1),
    compareExchange: (cell) => cell.compareExchange(0, 1),
    update: (cell) => cell.update((value) => value + 1),
    waitUntil: (cell) => cell.waitUntil(always),
    'waitUntil in vain': (cell) => cell.waitUntil(never),
  }),
  primitive('Cell of a container', (lifetime) => new Cell('cell', new Set<number>(), lifetime), {
    changeFor: (cell) => cell.changeFor((set) => set.add(1)),
    waitUntil: (cell) => cell.waitUntil(always),
    'waitUntil in vain': (cell) => cell.waitUntil(never),
  }),
  primitive('Completion', (lifetime) => new Completion('completion', false, lifetime), {
    isDone: (completion) => completion.isDone,
    test: (completion) => completion.test(),
    wait: (completion) => completion.wait(),
    complete: (completion) => completion.complete(),
    reinit: (completion) => completion.reinit(),
  }),
  primitive('Refcount', (lifetime) => new Refcount('count', 1, lifetime), {
    get: (count) => count.get(),
    tryGet: (count) => count.tryGet(),
    put: (count) => count.put(),
    set: (count) => count.set(2),
    waitForZero: (count) => count.waitForZero(),
    value: (count) => count.value,
  }),
  primitive('WaitQueue', (lifetime) => new WaitQueue('queue', lifetime), {
    waitUntil: (queue) => queue.waitUntil(always),
    'waitUntil in vain': (queue) => queue.waitUntil(never),
    wake: (queue) => queue.wake(),
  }),
];

/** Uses the object once after its end. */
function* use(object: object, operation: (object: never) => unknown): Task {
  const result = operation(object as never);
  if (typeof result === 'object' && result !== null && Symbol.iterator in result) yield* result as Task<unknown>;
}

for (const { name, make, operations } of PRIMITIVES) {
  for (const [operation, act] of Object.entries(operations)) {
    test(`${name}.${operation} is refused after the end, with the explorer and without`, async () => {
      const lifetime = new Lifetime('thing');
      const object = make(lifetime);
      lifetime.end();
      const runner = new Runner();
      assert.throws(() => runner.run(use(object, act)), /I5: .* after thing was freed/);

      const { bug } = await exploreProgram({
        name: 'dead',
        summary: '',
        build(stage) {
          const ended = new Lifetime('thing');
          const dead = make(ended);
          ended.end();
          stage.spawn('user', use(dead, act));
        },
      });
      assert.equal(bug?.invariant, 'I5');
      assert.match(bug?.message ?? '', /after thing was freed/);
    });
  }
}

/** The names of the class's own public methods and getters. */
function publicNames(object: object): string[] {
  const internal = ['constructor', 'notify', 'describe', 'snapshot', 'restore', 'lookAfterChanges', 'readsUnnoticed'];
  return Object.getOwnPropertyNames(Object.getPrototypeOf(object)).filter((name) => !internal.includes(name));
}

test('the table has every operation of every primitive', () => {
  for (const { name, make } of PRIMITIVES) {
    const known = PRIMITIVES.filter(
      (other) => other.make(new Lifetime('x')).constructor === make(new Lifetime('x')).constructor,
    );
    const missing = publicNames(make(new Lifetime('thing'))).filter(
      (operation) => !known.some(({ operations }) => operation in operations),
    );
    assert.deepEqual(missing, [], name);
  }
});

test('tasks that wait are woken by the end, and refused', () => {
  const waits: [string, (lifetime: Lifetime) => Task<unknown>][] = [
    ['cell', (lifetime) => new Cell('cell', 0, lifetime).waitUntil(never)],
    ['container', (lifetime) => new Cell('cell', new Set(), lifetime).waitUntil(never)],
    ['completion', (lifetime) => new Completion('completion', false, lifetime).wait()],
    ['count', (lifetime) => new Refcount('count', 1, lifetime).waitForZero()],
    ['queue', (lifetime) => new WaitQueue('queue', lifetime).waitUntil(never)],
  ];
  for (const [name, wait] of waits) {
    const runner = new Runner();
    const lifetime = new Lifetime('thing');
    const failed: unknown[] = [];
    runner.onFailure = ({ error }) => failed.push(error);
    const handle = runner.spawn(name, wait(lifetime));
    runner.drain();
    assert.equal(handle.state, 'blocked', name);
    lifetime.end();
    runner.drain();
    assert.equal(handle.state, 'failed', name);
    assert.equal((failed[0] as InvariantError).invariant, 'I5', name);
  }
});

test('a task that waits at what another frees is told so by the explorer', async () => {
  function* free(lifetime: Lifetime): Task {
    lifetime.end();
  }
  const { bug } = await exploreProgram({
    name: 'freed-under-a-waiter',
    summary: '',
    build(stage) {
      const lifetime = new Lifetime('thing');
      stage.spawn('waiter', new Completion('completion', false, lifetime).wait());
      stage.spawn('freer', free(lifetime));
    },
  });
  assert.equal(bug?.invariant, 'I5');
  assert.match(bug?.message ?? '', /waiter waits at wait completion.* after thing was freed/);
});
