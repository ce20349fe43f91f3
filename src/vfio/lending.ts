/** Takes a device's memory away from everybody, and gives it back: the pair that every trigger uses. */
import type { Task } from '../task/op.ts';
import { dmaBufMove, type LendingDevice } from './dmabuf.ts';

/** A device whose memory its user maps and peers borrow. */
export interface MemoryOwner extends LendingDevice {
  /** unmap_mapping_range: the next access through each mapping of the user's faults. */
  zapMappings(): Task;
}

/** Returns when nobody reaches the memory any more: no mapping of the user's, no peer. memory_lock is held for write. */
export function* revokeMemory(vdev: MemoryOwner): Task {
  yield* vdev.zapMappings();
  yield* dmaBufMove(vdev, true);
}

/** Lends the memory again where it may be used; the user's mappings fault back in. memory_lock is held for write. */
export function* restoreMemory(vdev: LendingDevice): Task {
  if (vdev.mayLend()) yield* dmaBufMove(vdev, false);
}
