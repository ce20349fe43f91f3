/**
 * Fair rw-semaphores: a reader queues behind a waiting writer even while others read. The explorer lets readers pass,
 * since the writer may also come later. So the queue only adds states in which every task waits.
 */
import { RwSemaphore } from '../../task/lock.ts';
import { OpKind } from '../../task/op.ts';
import type { TaskHandle } from '../../task/task-handle.ts';
import type { Execution } from '../world/execution.ts';

/** The writer behind which a reader that could otherwise go on may have to queue; null if there is none. */
export function writerAhead(execution: Execution, task: number): TaskHandle | null {
  const op = execution.pending[task]!;
  if (op.kind !== OpKind.READ_LOCK || !(op.object instanceof RwSemaphore) || op.object.readers.length === 0)
    return null;
  for (const other of execution.order) {
    const waits = execution.pending[other];
    if (other !== task && waits?.kind === OpKind.LOCK && waits.object === op.object) return execution.handles[other];
  }
  return null;
}

/** Whether every ready task would queue behind a writer, so that none can go on. */
export function areAllQueued(execution: Execution, ready: readonly number[]): boolean {
  return ready.length > 0 && ready.every((task) => writerAhead(execution, task) !== null);
}
