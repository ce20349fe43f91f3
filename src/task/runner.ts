/**
 * Runs tasks in production: steps a task until it finishes or really has to wait, parks it on the object that it waits
 * for, and goes on when that object changes. Cooperative and single-threaded: between two yields nothing else runs.
 */
import { DONE, Op, OpKind, runtime, Shared, step, type Task } from './op.ts';

export type TaskState = 'runnable' | 'blocked' | 'finished' | 'failed';

/** Who steps a task: a Runner in production, the explorer's world under it. */
export interface TaskHost {
  spawn<T>(label: string, task: Task<T>): TaskHandle<T>;
  enqueue(handle: TaskHandle): void;
}

const nothing = (): string => '';

/** A started task. As a `Shared` it is what others join on. */
export class TaskHandle<T = unknown> extends Shared {
  readonly runner: TaskHost | null;
  readonly iterator: Iterator<Op, T, unknown>;
  state: TaskState = 'runnable';
  result: T | undefined;
  error: unknown;
  /** What the task is about, in the words of whoever wrote it; for timelines. */
  activity: () => string = nothing;
  /** The operation that the task waits to take, while blocked. */
  pending: Op | null = null;

  constructor(runner: TaskHost | null, label: string, task: Task<T>) {
    super(label);
    this.runner = runner;
    this.iterator = task[Symbol.iterator]();
  }

  get ended(): boolean {
    return this.state === 'finished' || this.state === 'failed';
  }

  /** The object that the task was parked on has changed. */
  wake(): void {
    this.runner?.enqueue(this);
  }

  /** Waits for the task's end and returns its result, or throws what it threw. Ended by the task itself. */
  join(): Task<T> {
    return step(new JoinOp(this) as Op<T>);
  }

  override describe(): string {
    return this.state;
  }
}

class JoinOp extends Op {
  constructor(handle: TaskHandle) {
    super(OpKind.WAIT, handle);
  }

  override ready(): boolean {
    return (this.object as TaskHandle).ended;
  }

  perform(): unknown {
    const handle = this.object as TaskHandle;
    if (handle.state === 'failed') throw handle.error;
    return handle.result;
  }
}

/** A task was asked to finish now, and waits for something that only others could bring. */
export class BlockedError extends Error {
  readonly op: Op;

  constructor(handle: TaskHandle, op: Op) {
    super(`task ${handle.label} blocks at ${op} and nothing that runs here will wake it`);
    this.name = 'BlockedError';
    this.op = op;
  }
}

/** A queue of runnable tasks. Each thread has one, `runner`; tests may make their own. */
export class Runner implements TaskHost {
  private readonly queue: TaskHandle[] = [];
  /** Tasks that gave way: they go on when everything else that can run has run. */
  private later: TaskHandle[] = [];
  private draining = false;
  /** Called with tasks that fail while nobody waits for them; the default rethrows, out of `drain`. */
  onFailure: (handle: TaskHandle) => void = (handle) => {
    throw handle.error;
  };

  /** Starts a task; it runs when `drain` is called next, or within the drain that is under way. */
  spawn<T>(label: string, task: Task<T>): TaskHandle<T> {
    const handle = new TaskHandle<T>(this, label, task);
    this.queue.push(handle);
    return handle;
  }

  /** Starts a task and runs it right away, as far as it goes without waiting; `drain` takes it on from there. */
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
   * Runs a task, and everything that it makes runnable, until it has finished; returns its result or throws its error.
   * Throws BlockedError when it cannot finish: use `spawn` where waiting for the outside world is expected.
   */
  run<T>(task: Task<T>, label = 'main'): T {
    const handle = new TaskHandle<T>(this, label, task);
    const outer = runtime.current;
    try {
      this.advance(handle, true);
      while (!handle.ended) {
        this.drainUntil(handle);
        if (this.later.length === 0) break;
        this.queue.push(...this.later);
        this.later = [];
      }
    } finally {
      runtime.current = outer;
    }
    if (handle.state === 'failed') throw handle.error;
    if (handle.state !== 'finished') throw new BlockedError(handle, handle.pending!);
    return handle.result as T;
  }

  /** Lets every runnable task run until it ends or waits, those that give way included. */
  drain(): void {
    while (this.drainRound()) {}
  }

  /** No task can run now. */
  get isIdle(): boolean {
    return this.queue.length === 0 && this.later.length === 0;
  }

  /**
   * As `drain`, but once round only; returns whether tasks gave way and want to go on. Event loops look at their events
   * in between, so that a task of any length keeps nobody from being served.
   */
  drainRound(): boolean {
    if (this.draining || this.isIdle) return false;
    this.drainUntil(null);
    if (this.later.length === 0) return false;
    this.queue.push(...this.later);
    this.later = [];
    return true;
  }

  enqueue(handle: TaskHandle): void {
    this.queue.push(handle);
  }

  private drainUntil(target: TaskHandle | null): void {
    const outer = runtime.current;
    const wasDraining = this.draining;
    this.draining = true;
    try {
      for (let task = this.queue.shift(); task !== undefined; task = this.queue.shift()) {
        this.advance(task, false);
        if (target?.ended === true) break;
      }
    } finally {
      this.draining = wasDraining;
      runtime.current = outer;
    }
  }

  /** Steps one task as far as it goes. `awaited` says that the caller looks at a failure itself. */
  private advance(handle: TaskHandle, awaited: boolean): void {
    runtime.current = handle;
    const iterator = handle.iterator;
    let pending = handle.pending;
    handle.pending = null;
    handle.state = 'runnable';
    let input: unknown;
    let woken = pending !== null;
    try {
      for (;;) {
        if (pending === RESCHED) {
          this.later.push(handle);
          return;
        }
        if (pending !== null) {
          // Whoever waits for a lock stops those who come later, so that readers cannot starve a writer.
          const overtakes = !woken && pending.object.waiters !== null && isAcquire(pending);
          if (overtakes || !pending.ready(handle)) {
            park(handle, pending);
            return;
          }
          input = perform(pending, handle);
          woken = false;
        }
        const next = iterator.next(input);
        if (next.done === true) {
          handle.result = next.value;
          handle.state = 'finished';
          break;
        }
        pending = next.value;
      }
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
}

function isAcquire(op: Op): boolean {
  return op.kind === OpKind.LOCK || op.kind === OpKind.READ_LOCK;
}

function park(handle: TaskHandle, op: Op): void {
  handle.pending = op;
  handle.state = 'blocked';
  const object = op.object;
  if (object.waiters === null) object.waiters = [handle];
  else object.waiters.push(handle);
}

function perform(op: Op, handle: TaskHandle): unknown {
  op.object.lifetime?.check(op.toString());
  return op.perform(handle);
}

class ReschedOp extends Op {
  perform(): unknown {
    return undefined;
  }
}

const RESCHED = new ReschedOp(OpKind.SPAWN, new Shared('cond_resched'));

/**
 * cond_resched: lets everybody else run first. For work whose length a user decides; call it without a lock held. It
 * changes nothing that others see, so that the explorer, which tries every order anyway, does not have it.
 */
export function condResched(): Task<void> {
  return runtime.observed ? DONE : step(RESCHED as Op<void>);
}

/** The production runner of this thread. */
export const runner = new Runner();

class SpawnOp<T> extends Op<TaskHandle<T>> {
  private readonly label: string;
  private readonly task: Task<T>;

  constructor(label: string, task: Task<T>) {
    super(OpKind.SPAWN, new Shared(label));
    this.label = label;
    this.task = task;
  }

  perform(parent: TaskHandle): TaskHandle<T> {
    return (parent.runner ?? runner).spawn(this.label, this.task);
  }
}

/** Starts a task beside the one that calls; the explorer's scheduler overrides how. */
export function spawn<T>(label: string, task: Task<T>): Task<TaskHandle<T>> {
  return step(new SpawnOp(label, task));
}

/** As `spawn`, for code that is no task itself: a doorbell, whose write returns before the work begins. */
export function spawnBeside<T>(label: string, task: Task<T>): TaskHandle<T> {
  return (runtime.current?.runner ?? runner).spawn(label, task);
}

/** The task that runs now; locks use it as their owner. Outside of any task it is an anonymous one. */
export function currentTask(): TaskHandle {
  return runtime.current ?? OUTSIDE;
}

const OUTSIDE = new TaskHandle(null, 'outside any task', DONE as Task<unknown>);
