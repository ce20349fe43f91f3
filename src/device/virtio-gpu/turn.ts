/** Long work on pixels gives way to other tasks, since the driver chooses how many pixels there are. */
import type { Task } from '../../task/op.ts';
import type { QueueWork } from '../virtio/model.ts';

/** Other tasks run after this many bytes: some hundred microseconds. */
export const TURN_BYTES = 256 * 1024;

/** Counts the bytes since other tasks last ran. */
export class Turn {
  private bytes = 0;

  /** Counts bytes that were worked on, and lets other tasks run when they are many. */
  *took(work: QueueWork, bytes: number): Task {
    this.bytes += bytes;
    if (this.bytes < TURN_BYTES) return;
    this.bytes = 0;
    yield* work.giveWay();
  }
}
