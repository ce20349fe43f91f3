/** A started task, as other tasks see it. */
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';

/** Where a task is in its life. `blocked`: it waits at `pending`. */
export type TaskState = 'runnable' | 'blocked' | 'finished' | 'failed';

/** Steps tasks: a Runner in production, the explorer's world under the explorer. */
export interface TaskHost {
  /** Starts a task. */
  spawn<T>(label: string, task: Task<T>): TaskHandle<T>;
  /** Makes a task runnable that an object has woken. */
  enqueue(handle: TaskHandle): void;
}

const nothing = (): string => '';

/** A started task. As a `Shared`, it is the object that other tasks join on. */
export class TaskHandle<T = unknown> extends Shared {
  /** The host that steps the task; null where its steps are taken by hand. */
  readonly runner: TaskHost | null;
  /** Where the task is in its life. */
  state: TaskState = 'runnable';
  /** What the task returned; undefined until it has finished. */
  result: T | undefined;
  /** What the task threw; undefined unless it has failed. */
  error: unknown;
  /** The task's present activity in words, set by its author; for timelines. */
  activity: () => string = nothing;
  /** While blocked: the operation that the task waits to take. */
  pending: Op | null = null;
  private readonly task: Task<T>;
  /** Made by the first `resume`: the code before the first step must run as the task itself, not as its starter. */
  private iterator: Iterator<Op, T, unknown> | null = null;

  constructor(runner: TaskHost | null, label: string, task: Task<T>) {
    super(label);
    this.runner = runner;
    this.task = task;
  }

  /** Whether it has finished or failed. */
  get ended(): boolean {
    return this.state === 'finished' || this.state === 'failed';
  }

  /** Runs to the next operation, or to the end. `input` is the result of the last operation. */
  resume(input: unknown): IteratorResult<Op, T> {
    this.iterator ??= this.task[Symbol.iterator]();
    return this.iterator.next(input);
  }

  /** As `resume`, where the last operation failed: the error arrives inside the task, which may handle it. */
  raise(error: unknown): IteratorResult<Op, T> {
    if (this.iterator?.throw === undefined) throw error;
    return this.iterator.throw(error);
  }

  /** The object that the task was parked on has changed. */
  wake(): void {
    this.runner?.enqueue(this);
  }

  /** Waits for the task's end and returns its result, or throws its error. Only the task itself ends the wait. */
  join(): Task<T> {
    return new Op<T>(JOIN, this);
  }

  override describe(): string {
    return this.state;
  }
}

const JOIN = action<TaskHandle, unknown, unknown>(
  OpKind.WAIT,
  (handle) => {
    if (handle.state === 'failed') throw handle.error;
    return handle.result;
  },
  (handle) => handle.ended,
);

const OUTSIDE = new TaskHandle(null, 'outside any task', []);
runtime.outside = OUTSIDE;

/** The task that runs now; locks use it as their owner. Outside of any task, an anonymous task. */
export function currentTask(): TaskHandle {
  return runtime.current ?? OUTSIDE;
}
