/** dma_resv: the lock of a buffer and the fences of its users (drivers/dma-buf/dma-resv.c). */
import { type LockClass, Mutex } from '../task/lock.ts';
import { DONE, type Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import type { DmaFence } from './fence.ts';

/** enum dma_resv_usage. A query for one usage includes all those before it. */
export const DMA_RESV_USAGE_KERNEL = 0;
export const DMA_RESV_USAGE_WRITE = 1;
export const DMA_RESV_USAGE_READ = 2;
export const DMA_RESV_USAGE_BOOKKEEP = 3;
/** enum dma_resv_usage: 0 KERNEL, 1 WRITE, 2 READ, 3 BOOKKEEP. */
export type DmaResvUsage = 0 | 1 | 2 | 3;

/** dma_resv_usage_rw: the usage that a reader, or a writer, has to wait for. */
export function resvUsageRw(write: boolean): DmaResvUsage {
  return write ? DMA_RESV_USAGE_READ : DMA_RESV_USAGE_WRITE;
}

const RESV_LOCK_CLASS: LockClass = { name: 'dma_resv' };

interface ResvEntry {
  fence: DmaFence;
  usage: DmaResvUsage;
}

export class DmaResv {
  /** Guards the fences, the buffer's attachments, and fields of the exporter. */
  readonly lock = new Mutex(RESV_LOCK_CLASS);
  private readonly entries = new Plain<readonly ResvEntry[] | null>('fences', null);

  /** dma_resv_add_fence; the lock must be held. A later fence of the same context replaces the earlier one. */
  *addFence(fence: DmaFence, usage: DmaResvUsage): Task {
    this.lock.assertHeld();
    const entries: ResvEntry[] = [];
    for (const entry of this.entries.get() ?? []) {
      const isReplaced = entry.fence.context === fence.context && entry.usage >= usage;
      if (!isReplaced && !(yield* entry.fence.testSignaled())) entries.push(entry);
    }
    entries.push({ fence, usage });
    this.entries.set(entries);
  }

  /** The fences of `usage` and of those before it. */
  fences(usage: DmaResvUsage): DmaFence[] {
    const entries = this.entries.get();
    if (entries === null) return [];
    return entries.filter((entry) => entry.usage <= usage).map((entry) => entry.fence);
  }

  /** dma_resv_test_signaled. */
  testSignaled(usage: DmaResvUsage): boolean {
    return this.entries.get() === null || this.fences(usage).every((fence) => fence.isSignaled);
  }

  /** dma_resv_wait_timeout with MAX_SCHEDULE_TIMEOUT: signals of the fences end it. */
  wait(usage: DmaResvUsage): Task {
    return this.entries.get() === null ? DONE : waitForFences(this.fences(usage));
  }
}

function* waitForFences(fences: readonly DmaFence[]): Task {
  for (const fence of fences) yield* fence.wait();
}
