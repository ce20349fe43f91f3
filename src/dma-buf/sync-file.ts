/** sync_file: fences behind a descriptor (drivers/dma-buf/sync_file.c). */
import type { Task } from '../task/op.ts';
import { DmaFence } from './fence.ts';
import { File } from './file.ts';

export class SyncFile extends File {
  /** Never empty. */
  readonly fences: readonly DmaFence[];

  constructor(fences: readonly DmaFence[]) {
    super('sync_file');
    this.fences = fences.length === 0 ? [DmaFence.stub()] : fences;
  }

  get isSignaled(): boolean {
    return this.fences.every((fence) => fence.isSignaled);
  }

  protected override *release(): Task {
    // The tasks that signal the fences own them.
  }
}
