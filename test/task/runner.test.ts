import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { InvariantError, Lifetime } from '../../src/task/lifetime.ts';
import { Mutex, RwSemaphore } from '../../src/task/lock.ts';
import type { Task } from '../../src/task/op.ts';
import { Refcount } from '../../src/task/refcount.ts';
import { BlockedError, condResched, Runner, spawn } from '../../src/task/runner.ts';

test('a mutex serves its waiters in order of arrival and one at a time', () => {
  const runner = new Runner();
  const mutex = new Mutex({ name: 'm' });
  const gate = new Completion('gate');
  const seen: string[] = [];
  function* worker(name: string): Task {
    yield* mutex.lock();
    seen.push(`+${name}`);
    yield* gate.wait();
    seen.push(`-${name}`);
    yield* mutex.unlock();
  }
  for (const name of ['a', 'b', 'c']) runner.spawn(name, worker(name));
  runner.drain();
  assert.deepEqual(seen, ['+a']);
  runner.run(gate.complete());
  runner.drain();
  assert.deepEqual(seen, ['+a', '-a', '+b', '-b', '+c', '-c']);
});

test('an uncontended acquire yields nothing', () => {
  const mutex = new Mutex({ name: 'm' });
  const iterator = mutex.lock()[Symbol.iterator]();
  assert.equal(iterator.next().done, true);
  assert.equal(mutex.describe(), 'held by outside any task');
});

test('a waiting writer keeps new readers out and comes next', () => {
  const runner = new Runner();
  const sem = new RwSemaphore({ name: 's' });
  const leave = new Completion('leave');
  const seen: string[] = [];
  function* reader(name: string): Task {
    yield* sem.read();
    seen.push(name);
    yield* leave.wait();
    yield* sem.releaseRead();
  }
  function* writer(): Task {
    yield* sem.write();
    seen.push('w');
    yield* sem.releaseWrite();
  }
  runner.spawn('r1', reader('r1'));
  runner.spawn('w', writer());
  runner.spawn('r2', reader('r2'));
  runner.drain();
  assert.deepEqual(seen, ['r1']);
  runner.run(leave.complete());
  runner.drain();
  assert.deepEqual(seen, ['r1', 'w', 'r2']);
});

test('run returns the result, rethrows the error, and refuses to wait for nobody', () => {
  const runner = new Runner();
  function* child(): Task<number> {
    return 7;
  }
  function* parent(): Task<number> {
    const handle = yield* spawn('child', child());
    return (yield* handle.join()) + 1;
  }
  assert.equal(runner.run(parent()), 8);
  function* failing(): Task {
    throw new Error('boom');
  }
  assert.throws(() => runner.run(failing()), /boom/);
  assert.throws(() => runner.run(new Completion('never').wait()), BlockedError);
});

test('an error of an operation arrives inside the task, which can handle it', () => {
  const runner = new Runner();
  const count = new Refcount('count', 0);
  function* task(): Task<string> {
    try {
      yield* count.put();
    } catch (error) {
      return (error as InvariantError).invariant;
    }
    return 'nothing';
  }
  assert.equal(runner.run(task()), 'I3');
});

test('an unlock by another than the owner is an error', () => {
  const runner = new Runner();
  const mutex = new Mutex({ name: 'm' });
  function* lock(): Task {
    yield* mutex.lock();
  }
  function* unlock(): Task {
    yield* mutex.unlock();
  }
  runner.run(lock(), 'owner');
  assert.throws(() => runner.run(unlock(), 'thief'), InvariantError);
});

test('cells wake their waiters, and touching one of the dead is I5', () => {
  const runner = new Runner();
  const lifetime = new Lifetime('thing');
  const cell = new Cell('thing.state', 0, lifetime);
  const seen: number[] = [];
  function* waiter(): Task {
    yield* cell.waitUntil((value) => value === 2);
    seen.push(cell.value);
  }
  runner.spawn('waiter', waiter());
  runner.drain();
  runner.run(cell.store(1));
  runner.drain();
  assert.deepEqual(seen, []);
  assert.equal(runner.run(cell.compareExchange(1, 2)), true);
  runner.drain();
  assert.deepEqual(seen, [2]);
  lifetime.end();
  assert.throws(() => runner.run(cell.load()), /I5/);
  assert.throws(() => lifetime.end(), /I3/);
});

test('a task that gives way goes on after everybody else, and an event loop gets its turn in between', () => {
  const runner = new Runner();
  const seen: string[] = [];
  function* worker(name: string): Task {
    for (let i = 0; i < 3; i++) {
      seen.push(`${name}${i}`);
      yield* condResched();
    }
  }
  runner.spawn('a', worker('a'));
  runner.spawn('b', worker('b'));
  assert.equal(runner.drainRound(), true);
  assert.deepEqual(seen, ['a0', 'b0']);
  runner.drain();
  assert.deepEqual(seen, ['a0', 'b0', 'a1', 'b1', 'a2', 'b2']);
  runner.run(worker('c'));
  assert.deepEqual(seen.slice(6), ['c0', 'c1', 'c2']);
});
