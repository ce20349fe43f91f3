/**
 * `barter/tasks`: tasks, and the objects that they block on. A task is a generator; the same one runs in production
 * under a `Runner` and in every order under the explorer (docs/tasks.md).
 *
 * @module barter/tasks
 */
export { Cell } from '../task/cell.ts';
export { Completion } from '../task/completion.ts';
export { InvariantError, Lifetime } from '../task/lifetime.ts';
export { type LockClass, Mutex, RwSemaphore } from '../task/lock.ts';
export type { Op, Task } from '../task/op.ts';
export { Plain } from '../task/plain.ts';
export { Refcount } from '../task/refcount.ts';
export { BlockedError, condResched, Runner, runner, spawn, spawnBeside } from '../task/runner.ts';
export { currentTask, type TaskHandle, type TaskHost, type TaskState } from '../task/task-handle.ts';
export { WaitQueue } from '../task/wait-queue.ts';
