/**
 * Fair rw-semaphores: a reader queues behind a writer that waits, though others read. The explorer lets readers pass,
 * since a writer may come later as well; what the queue adds are states in which everybody waits.
 */
import { RwSemaphore } from '../../task/lock.ts';
import { OpKind } from '../../task/op.ts';
import type { TaskHandle } from '../../task/task-handle.ts';
import type { Execution } from '../world/execution.ts';

/** The writer that a reader, who could go on else, may have to queue behind; null where there is none. */
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

/** Every task that is ready would queue behind a writer, so that none goes on. */
export function areAllQueued(execution: Execution, ready: readonly number[]): boolean {
  return ready.length > 0 && ready.every((task) => writerAhead(execution, task) !== null);
}
