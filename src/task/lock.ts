/**
 * Locks. Each carries a class, as in lockdep: the order of classes is what must have no cycle, over all runs. An
 * uncontended acquire in production costs neither a yield nor an allocation.
 */
import { DONE, DONE_FALSE, DONE_TRUE, InvariantError, Op, OpKind, runtime, Shared, step, type Task } from './op.ts';
import { currentTask, type TaskHandle } from './runner.ts';

/** All locks made at one place in the code share a class; docs/architecture.md states the order of the classes. */
export interface LockClass {
  readonly name: string;
  /** A second lock of the class may be taken while one is held (hot reset over a device set, by trylock). */
  readonly nestable?: boolean;
}

export abstract class Lock extends Shared {
  readonly lockClass: LockClass;

  constructor(lockClass: LockClass, label = lockClass.name) {
    super(label);
    this.lockClass = lockClass;
  }
}

class LockOp<L extends Lock, T> extends Op<T> {
  private readonly guard: (lock: L, task: TaskHandle) => boolean;
  private readonly act: (lock: L, task: TaskHandle, op: Op) => T;

  constructor(
    kind: OpKind,
    lock: L,
    guard: (lock: L, task: TaskHandle) => boolean,
    act: (lock: L, task: TaskHandle, op: Op) => T,
  ) {
    super(kind, lock);
    this.guard = guard;
    this.act = act;
  }

  override ready(task: TaskHandle): boolean {
    return this.guard(this.object as L, task);
  }

  perform(task: TaskHandle): T {
    return this.act(this.object as L, task, this);
  }
}

const always = (): boolean => true;

/** A sleeping lock with one owner (struct mutex). Not recursive. Waiters are served in order of arrival. */
export class Mutex extends Lock {
  owner: TaskHandle | null = null;
  /** Made when somebody first watches or waits: most locks of a large machine never need them. */
  private ops: (Op | undefined)[] | null = null;

  /** Acquires; waits for the owner's unlock. */
  lock(): Task<void> {
    if (!runtime.observed && this.owner === null && this.waiters === null) {
      this.owner = currentTask();
      return DONE;
    }
    return step(this.op(OpKind.LOCK) as Op<void>);
  }

  /** Acquires if free; never waits. */
  tryLock(): Task<boolean> {
    if (runtime.observed) return step(this.op(OpKind.TRY_LOCK) as Op<boolean>);
    if (this.owner !== null) return DONE_FALSE;
    this.owner = currentTask();
    return DONE_TRUE;
  }

  unlock(): Task<void> {
    if (runtime.observed) return step(this.op(OpKind.UNLOCK) as Op<void>);
    this.release(currentTask());
    return DONE;
  }

  /** lockdep_assert_held: fails unless the running task owns the lock. */
  assertHeld(): void {
    if (this.owner !== currentTask()) throw new InvariantError('I4', `${this.label} must be held here`);
  }

  override describe(): string {
    return this.owner === null ? 'free' : `held by ${this.owner.label}`;
  }

  private op(kind: OpKind): Op {
    this.ops ??= [];
    let op = this.ops[kind];
    if (op === undefined) {
      op = mutexOp(this, kind);
      this.ops[kind] = op;
    }
    return op;
  }

  /** @internal */
  release(task: TaskHandle): void {
    if (this.owner !== task) {
      throw new InvariantError('I4', `${task.label} unlocks ${this.label}, ${this.describe()}`);
    }
    this.owner = null;
    this.notify();
  }
}

function mutexOp(mutex: Mutex, kind: OpKind): Op {
  switch (kind) {
    case OpKind.LOCK:
      return new LockOp(
        kind,
        mutex,
        (m) => m.owner === null,
        (m, task) => {
          m.owner = task;
        },
      );
    case OpKind.TRY_LOCK:
      return new LockOp(kind, mutex, always, (m, task, op) => {
        op.changed = m.owner === null;
        if (op.changed) m.owner = task;
        return op.changed;
      });
    default:
      return new LockOp(kind, mutex, always, (m, task) => m.release(task));
  }
}

/** A lock that many may hold for reading or one for writing (struct rw_semaphore). Fair: a waiter stops newcomers. */
export class RwSemaphore extends Lock {
  writer: TaskHandle | null = null;
  /** Who reads, a task as often as it holds the lock. */
  readonly readers: TaskHandle[] = [];
  /** Made when somebody first watches or waits: most locks of a large machine never need them. */
  private ops: (Op | undefined)[] | null = null;

  /** down_read. Waits for a writer's release. */
  read(): Task<void> {
    if (!runtime.observed && this.writer === null && this.waiters === null) {
      this.readers.push(currentTask());
      return DONE;
    }
    return step(this.op(OpKind.READ_LOCK) as Op<void>);
  }

  /** down_write. Waits for the release of the writer or of all readers. */
  write(): Task<void> {
    if (!runtime.observed && this.writer === null && this.readers.length === 0 && this.waiters === null) {
      this.writer = currentTask();
      return DONE;
    }
    return step(this.op(OpKind.LOCK) as Op<void>);
  }

  /** down_write_trylock. */
  tryWrite(): Task<boolean> {
    if (runtime.observed) return step(this.op(OpKind.TRY_LOCK) as Op<boolean>);
    if (this.writer !== null || this.readers.length > 0) return DONE_FALSE;
    this.writer = currentTask();
    return DONE_TRUE;
  }

  /** down_read_trylock. */
  tryRead(): Task<boolean> {
    if (runtime.observed) return step(this.op(OpKind.TRY_READ_LOCK) as Op<boolean>);
    if (this.writer !== null) return DONE_FALSE;
    this.readers.push(currentTask());
    return DONE_TRUE;
  }

  releaseRead(): Task<void> {
    if (runtime.observed) return step(this.op(OpKind.READ_UNLOCK) as Op<void>);
    this.dropReader(currentTask());
    return DONE;
  }

  releaseWrite(): Task<void> {
    if (runtime.observed) return step(this.op(OpKind.UNLOCK) as Op<void>);
    this.dropWriter(currentTask());
    return DONE;
  }

  /** lockdep_assert_held_write. */
  assertHeldWrite(): void {
    if (this.writer !== currentTask()) throw new InvariantError('I4', `${this.label} must be held for write here`);
  }

  /** lockdep_assert_held: for read or for write. */
  assertHeld(): void {
    const task = currentTask();
    if (this.writer !== task && !this.readers.includes(task)) {
      throw new InvariantError('I4', `${this.label} must be held here`);
    }
  }

  override describe(): string {
    if (this.writer !== null) return `held for write by ${this.writer.label}`;
    return this.readers.length === 0 ? 'free' : `held for read by ${this.readers.map((r) => r.label).join(', ')}`;
  }

  private op(kind: OpKind): Op {
    this.ops ??= [];
    let op = this.ops[kind];
    if (op === undefined) {
      op = rwSemaphoreOp(this, kind);
      this.ops[kind] = op;
    }
    return op;
  }

  /** @internal */
  dropReader(task: TaskHandle): void {
    const index = this.readers.lastIndexOf(task);
    if (index < 0) throw new InvariantError('I4', `${task.label} releases a read of ${this.label}, ${this.describe()}`);
    this.readers.splice(index, 1);
    this.notify();
  }

  /** @internal */
  dropWriter(task: TaskHandle): void {
    if (this.writer !== task) {
      throw new InvariantError('I4', `${task.label} releases ${this.label}, ${this.describe()}`);
    }
    this.writer = null;
    this.notify();
  }
}

function rwSemaphoreOp(sem: RwSemaphore, kind: OpKind): Op {
  const free = (s: RwSemaphore): boolean => s.writer === null && s.readers.length === 0;
  switch (kind) {
    case OpKind.LOCK:
      return new LockOp(kind, sem, free, (s, task) => {
        s.writer = task;
      });
    case OpKind.READ_LOCK:
      return new LockOp(
        kind,
        sem,
        (s) => s.writer === null,
        (s, task) => {
          s.readers.push(task);
        },
      );
    case OpKind.TRY_LOCK:
      return new LockOp(kind, sem, always, (s, task, op) => {
        op.changed = free(s);
        if (op.changed) s.writer = task;
        return op.changed;
      });
    case OpKind.TRY_READ_LOCK:
      return new LockOp(kind, sem, always, (s, task, op) => {
        op.changed = s.writer === null;
        if (op.changed) s.readers.push(task);
        return op.changed;
      });
    case OpKind.READ_UNLOCK:
      return new LockOp(kind, sem, always, (s, task) => s.dropReader(task));
    default:
      return new LockOp(kind, sem, always, (s, task) => s.dropWriter(task));
  }
}
