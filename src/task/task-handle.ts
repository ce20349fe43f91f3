/** A started task, as others see it. */
import { action, Op, OpKind, type Task } from './op.ts';
import { runtime } from './runtime.ts';
import { Shared } from './shared.ts';

export type TaskState = 'runnable' | 'blocked' | 'finished' | 'failed';

/** Steps tasks: a Runner in production, the explorer's world under it. */
export interface TaskHost {
  spawn<T>(label: string, task: Task<T>): TaskHandle<T>;
  enqueue(handle: TaskHandle): void;
}

const nothing = (): string => '';

/** A started task. As a `Shared` it is what others join on. */
export class TaskHandle<T = unknown> extends Shared {
  readonly runner: TaskHost | null;
  state: TaskState = 'runnable';
  result: T | undefined;
  error: unknown;
  /** What the task is about, in the words of its author; for timelines. */
  activity: () => string = nothing;
  /** The operation that the task waits to take, while blocked. */
  pending: Op | null = null;
  private readonly task: Task<T>;
  /** Made by the first `resume`: what the task does before its first step must be its own, not its starter's. */
  private iterator: Iterator<Op, T, unknown> | null = null;

  constructor(runner: TaskHost | null, label: string, task: Task<T>) {
    super(label);
    this.runner = runner;
    this.task = task;
  }

  get ended(): boolean {
    return this.state === 'finished' || this.state === 'failed';
  }

  /** Goes on to the next operation, or to the end. `input` is what the last operation returned. */
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

  /** Waits for the task's end and returns its result, or throws what it threw. Ended by the task itself. */
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

/** The task that runs now; locks use it as their owner. Outside of any task it is an anonymous one. */
export function currentTask(): TaskHandle {
  return runtime.current ?? OUTSIDE;
}
