/** Revokes a device's memory from its user and all peers, and restores it: the pair that every trigger uses. */
import type { Task } from '../task/op.ts';
import type { RevokeCause } from './buffer-observer.ts';
import { dmaBufMove, type LendingDevice } from './dmabuf.ts';

/** A device whose memory its user maps and peers borrow. */
export interface MemoryOwner extends LendingDevice {
  /** unmap_mapping_range: the next access through each of the user's mappings faults. */
  zapMappings(): Task;
}

/** Returns when no user mapping and no peer reaches the memory any more. memory_lock is held for write. */
export function* revokeMemory(vdev: MemoryOwner, cause: RevokeCause): Task {
  yield* vdev.zapMappings();
  yield* dmaBufMove(vdev, cause);
}

/** Lends the memory again if it may be used; the user's mappings fault back in. memory_lock is held for write. */
export function* restoreMemory(vdev: LendingDevice): Task {
  if (vdev.mayLend()) yield* dmaBufMove(vdev, null);
}
