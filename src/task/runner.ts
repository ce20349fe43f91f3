/**
 * Runs tasks in production. Steps a task until it finishes or has to wait. Parks a waiting task on the object that it
 * waits for, and continues it when that object changes. Cooperative and single-threaded: between two yields nothing
 * else runs.
 */
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';
import { TaskHandle, type TaskHost } from './task-handle.ts';

/** A task that must finish now waits for something that only the outside can bring. */
export class BlockedError extends Error {
  /** The operation that the task waits to take. */
  readonly op: Op;

  constructor(handle: TaskHandle, op: Op) {
    super(`task ${handle.label} blocks at ${op} and nothing that runs here will wake it`);
    this.name = 'BlockedError';
    this.op = op;
  }
}

/** A queue of runnable tasks. Each thread has one, `runner`; tests may make their own. */
export class Runner implements TaskHost {
  protected readonly queue: TaskHandle[] = [];
  /** Tasks that gave way: they continue after every other runnable task has run. */
  protected later: TaskHandle[] = [];
  private draining = false;
  /** The tasks that wait, each with the time of `performance.now()` when its wait began; null while nobody watches. */
  waiting: Map<TaskHandle, number> | null = null;
  /** Called with tasks that fail while no task joins them. The default rethrows out of `drain`. */
  onFailure: (handle: TaskHandle) => void = (handle) => {
    throw handle.error;
  };

  /** Starts a task; it runs at the next `drain`, or within the present one. */
  spawn<T>(label: string, task: Task<T>): TaskHandle<T> {
    const handle = new TaskHandle<T>(this, label, task);
    this.queue.push(handle);
    return handle;
  }

  /** Starts a task and runs it at once until it waits; `drain` continues it. */
  start<T>(label: string, task: Task<T>): TaskHandle<T> {
    const handle = new TaskHandle<T>(this, label, task);
    const outer = runtime.current;
    try {
      this.advance(handle, false);
    } finally {
      runtime.current = outer;
    }
    return handle;
  }

  /**
   * Runs a task, and every task that it makes runnable, until it has finished; returns its result or throws its error.
   * Throws BlockedError when it cannot finish: use `spawn` for a task that may wait for the outside world.
   */
  run<T>(task: Task<T>, label = 'main'): T {
    const handle = new TaskHandle<T>(this, label, task);
    const outer = runtime.current;
    try {
      this.advance(handle, true);
      while (!handle.ended) {
        this.drainUntil(handle);
        if (this.later.length === 0) break;
        this.takeBackLater();
      }
    } finally {
      runtime.current = outer;
    }
    if (handle.state === 'failed') throw handle.error;
    if (handle.state !== 'finished') throw new BlockedError(handle, handle.pending!);
    return handle.result as T;
  }

  /** Runs every runnable task until it ends or waits, including tasks that gave way. */
  drain(): void {
    while (this.drainRound()) {}
  }

  /** No task can run now. */
  get isIdle(): boolean {
    return this.queue.length === 0 && this.later.length === 0;
  }

  /**
   * As `drain`, but one round only; returns whether tasks gave way and want to continue. Event loops poll their events
   * between rounds, so a long task does not block other clients.
   */
  drainRound(): boolean {
    if (this.draining || this.isIdle) return false;
    this.drainUntil(null);
    if (this.later.length === 0) return false;
    this.takeBackLater();
    return true;
  }

  /** Makes a task runnable; for the objects that tasks wait at. */
  enqueue(handle: TaskHandle): void {
    this.queue.push(handle);
  }

  /** The next task to run: first come, first served. Tests override it for other orders. */
  protected next(): TaskHandle | undefined {
    return this.queue.shift();
  }

  private takeBackLater(): void {
    this.queue.push(...this.later);
    this.later = [];
  }

  private drainUntil(target: TaskHandle | null): void {
    const outer = runtime.current;
    const wasDraining = this.draining;
    this.draining = true;
    try {
      for (let task = this.next(); task !== undefined; task = this.next()) {
        this.advance(task, false);
        if (target?.ended === true) break;
      }
    } finally {
      this.draining = wasDraining;
      runtime.current = outer;
    }
  }

  /** Steps one task until it waits or ends. `awaited`: the caller handles a failure itself. */
  private advance(handle: TaskHandle, awaited: boolean): void {
    runtime.current = handle;
    const woken = handle.pending;
    handle.pending = null;
    handle.state = 'runnable';
    try {
      if (woken !== null && !woken.ready() && !woken.isRefused) {
        this.park(handle, woken);
        return;
      }
      if (woken !== null && this.waiting !== null) this.waiting.delete(handle);
      let next = woken === null ? handle.resume(undefined) : step(handle, woken);
      while (next.done !== true) {
        const op = next.value;
        if (op.kind === OpKind.GIVE_WAY) {
          this.later.push(handle);
          return;
        }
        if (!op.ready(true) && !op.isRefused) {
          this.park(handle, op);
          return;
        }
        next = step(handle, op);
      }
      handle.result = next.value;
      handle.state = 'finished';
    } catch (error) {
      handle.error = error;
      handle.state = 'failed';
      const joined = handle.waiters !== null;
      handle.notify();
      if (!awaited && !joined) this.onFailure(handle);
      return;
    }
    handle.notify();
  }

  private park(handle: TaskHandle, op: Op): void {
    handle.pending = op;
    handle.state = 'blocked';
    const object = op.object;
    if (object.waiters === null) object.waiters = [handle];
    else object.waiters.push(handle);
    object.lifetime?.parks(object);
    // A task that was woken and cannot go on yet still waits since its first try.
    if (this.waiting !== null && !this.waiting.has(handle)) this.waiting.set(handle, performance.now());
  }
}

/** Takes a step of a task, and resumes it up to the next one. */
function step(handle: TaskHandle, op: Op): IteratorResult<Op, unknown> {
  let result: unknown;
  try {
    result = op.take(handle);
  } catch (error) {
    return handle.raise(error);
  }
  return handle.resume(result);
}

const GIVE_WAY = new Op<void>(
  action<Shared, unknown, void>(
    OpKind.GIVE_WAY,
    () => {},
    () => false,
  ),
  new Shared('cond_resched'),
);

/**
 * cond_resched: lets all other tasks run first. For work whose length a user decides; call it without a lock held. It
 * changes no shared state, and the explorer tries every order anyway, so it is not a step there.
 */
export function condResched(): Task<void> {
  return GIVE_WAY;
}

/** The production runner of this thread. */
export const runner = new Runner();

const SPAWN = action<Shared, Task<unknown>, TaskHandle>(OpKind.SPAWN, (started, task, parent) =>
  (parent.runner ?? runner).spawn(started.label, task),
);

/** Starts a task beside the calling one. */
export function spawn<T>(label: string, task: Task<T>): Task<TaskHandle<T>> {
  return new Op<TaskHandle<T>>(SPAWN, new Shared(label), task);
}

/** As `spawn`, for code outside of any task: a doorbell, whose write returns before the work begins. */
export function spawnBeside<T>(label: string, task: Task<T>): TaskHandle<T> {
  return (runtime.current?.runner ?? runner).spawn(label, task);
}
