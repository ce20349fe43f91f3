/**
 * Locks. Each has a class, as in lockdep: the order of classes must not have a cycle, over all runs. In production an
 * uncontended acquire does not yield.
 */
import { InvariantError, type Lifetime } from './lifetime.ts';
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';
import { currentTask, type TaskHandle } from './task-handle.ts';

/** All locks made at one place in the code share a class; docs/architecture.md states the order of the classes. */
export interface LockClass {
  /** Names the class in messages, and tells it from others. */
  readonly name: string;
  /** A second lock of the class may be taken while one is held (hot reset over a device set, by trylock). */
  readonly nestable?: boolean;
}

export abstract class Lock extends Shared {
  /** The class whose order is checked. */
  readonly lockClass: LockClass;

  constructor(lockClass: LockClass, label = lockClass.name, lifetime: Lifetime | null = null) {
    super(label, lifetime);
    this.lockClass = lockClass;
  }
}

/** A sleeping lock with one owner (struct mutex). Not recursive. Serves waiters in order of arrival. */
export class Mutex extends Lock {
  /** The task that holds it; null while it is free. */
  owner: TaskHandle | null = null;

  /** Acquires; waits for the owner's unlock. */
  lock(): Task<void> {
    return new Op<void>(LOCK, this);
  }

  /** Acquires if free; never waits. */
  tryLock(): Task<boolean> {
    return new Op<boolean>(TRY_LOCK, this);
  }

  /** Releases it; wakes the first waiter. InvariantError unless the running task owns it. */
  unlock(): Task<void> {
    return new Op<void>(UNLOCK, this);
  }

  /** lockdep_assert_held: fails unless the running task owns the lock. */
  assertHeld(): void {
    this.touch();
    if (this.owner !== currentTask()) throw new InvariantError('I4', `${this.label} must be held here`);
  }

  override describe(): string {
    return this.owner === null ? 'free' : `held by ${this.owner.label}`;
  }
}

const LOCK = action<Mutex, unknown, void>(
  OpKind.LOCK,
  (mutex, _, task) => {
    mutex.owner = task;
  },
  (mutex, _, isNew) => mutex.owner === null && !(isNew && mutex.waiters !== null),
);

const TRY_LOCK = action<Mutex, unknown, boolean>(OpKind.TRY_LOCK, (mutex, _, task, op) => {
  op.changed = mutex.owner === null;
  if (op.changed) mutex.owner = task;
  return op.changed;
});

const UNLOCK = action<Mutex, unknown, void>(OpKind.UNLOCK, (mutex, _, task) => {
  if (mutex.owner !== task) {
    throw new InvariantError('I4', `${task.label} unlocks ${mutex.label}, ${mutex.describe()}`);
  }
  mutex.owner = null;
  mutex.notify();
});

/**
 * A lock that many tasks may hold for reading, or one for writing (struct rw_semaphore). Fair: newcomers wait behind a
 * waiter.
 */
export class RwSemaphore extends Lock {
  /** The task that holds it for writing; null without one. */
  writer: TaskHandle | null = null;
  /** The tasks that hold it for reading, once for each time that they took it. */
  readonly readers: TaskHandle[] = [];

  /** down_read. Waits for a writer to release it, and behind a waiting writer. */
  read(): Task<void> {
    return new Op<void>(READ, this);
  }

  /** down_write. Waits until the writer or all readers have released it. */
  write(): Task<void> {
    return new Op<void>(WRITE, this);
  }

  /** down_write_trylock. */
  tryWrite(): Task<boolean> {
    return new Op<boolean>(TRY_WRITE, this);
  }

  /** down_read_trylock. Ignores waiting writers. */
  tryRead(): Task<boolean> {
    return new Op<boolean>(TRY_READ, this);
  }

  /** up_read. InvariantError unless the running task holds it for reading. */
  releaseRead(): Task<void> {
    return new Op<void>(RELEASE_READ, this);
  }

  /** up_write. InvariantError unless the running task holds it for writing. */
  releaseWrite(): Task<void> {
    return new Op<void>(RELEASE_WRITE, this);
  }

  /**
   * True if a reader could take and release the lock unnoticed. For accesses so short that the two steps cost more than
   * the rest. Never true under the explorer, which must see the steps.
   */
  get readsUnnoticed(): boolean {
    return !runtime.observed && this.writer === null && this.waiters === null && this.lifetime === null;
  }

  /** lockdep_assert_held_write. */
  assertHeldWrite(): void {
    this.touch();
    if (this.writer !== currentTask()) throw new InvariantError('I4', `${this.label} must be held for write here`);
  }

  /** lockdep_assert_held: for read or for write. */
  assertHeld(): void {
    this.touch();
    const task = currentTask();
    if (this.writer !== task && !this.readers.includes(task)) {
      throw new InvariantError('I4', `${this.label} must be held here`);
    }
  }

  override describe(): string {
    if (this.writer !== null) return `held for write by ${this.writer.label}`;
    return this.readers.length === 0 ? 'free' : `held for read by ${this.readers.map((r) => r.label).join(', ')}`;
  }
}

const isFree = (sem: RwSemaphore): boolean => sem.writer === null && sem.readers.length === 0;
const isReadable = (sem: RwSemaphore): boolean => sem.writer === null;
const queues = (sem: RwSemaphore, isNew: boolean): boolean => isNew && sem.waiters !== null;

const READ = action<RwSemaphore, unknown, void>(
  OpKind.READ_LOCK,
  (sem, _, task) => {
    sem.readers.push(task);
  },
  (sem, _, isNew) => isReadable(sem) && !queues(sem, isNew),
);

const WRITE = action<RwSemaphore, unknown, void>(
  OpKind.LOCK,
  (sem, _, task) => {
    sem.writer = task;
  },
  (sem, _, isNew) => isFree(sem) && !queues(sem, isNew),
);

const TRY_WRITE = action<RwSemaphore, unknown, boolean>(OpKind.TRY_LOCK, (sem, _, task, op) => {
  op.changed = isFree(sem);
  if (op.changed) sem.writer = task;
  return op.changed;
});

const TRY_READ = action<RwSemaphore, unknown, boolean>(OpKind.TRY_READ_LOCK, (sem, _, task, op) => {
  op.changed = isReadable(sem);
  if (op.changed) sem.readers.push(task);
  return op.changed;
});

const RELEASE_READ = action<RwSemaphore, unknown, void>(OpKind.READ_UNLOCK, (sem, _, task) => {
  const index = sem.readers.lastIndexOf(task);
  if (index < 0) {
    throw new InvariantError('I4', `${task.label} releases a read of ${sem.label}, ${sem.describe()}`);
  }
  sem.readers.splice(index, 1);
  // While readers are left, no waiter can go on: a writer needs them gone, and readers wait behind a writer.
  if (sem.readers.length === 0) sem.notify();
});

const RELEASE_WRITE = action<RwSemaphore, unknown, void>(OpKind.UNLOCK, (sem, _, task) => {
  if (sem.writer !== task) throw new InvariantError('I4', `${task.label} releases ${sem.label}, ${sem.describe()}`);
  sem.writer = null;
  sem.notify();
});
