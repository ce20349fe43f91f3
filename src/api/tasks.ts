/**
 * `barter/tasks`: tasks and what they block on. A task is a generator; the same one runs in production under a `Runner`
 * and in every order under the explorer (docs/tasks.md).
 */
export { Cell, Completion, Refcount, WaitQueue } from '../task/cell.ts';
export { type LockClass, Mutex, RwSemaphore } from '../task/lock.ts';
export { InvariantError, Lifetime, type Task } from '../task/op.ts';
export { Plain } from '../task/plain.ts';
export {
  BlockedError,
  condResched,
  currentTask,
  Runner,
  runner,
  spawn,
  spawnBeside,
  type TaskHandle,
  type TaskState,
} from '../task/runner.ts';
