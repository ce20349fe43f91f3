/** dma_fence: a promise of the hardware to finish its use of a buffer (drivers/dma-buf/dma-fence.c). */
import type { ErrnoName } from '../abi/errno.ts';
import { Completion } from '../task/completion.ts';
import type { Task } from '../task/op.ts';

let nextContext = 1;

/** A new timeline of fences that signal in order. */
function allocateFenceContext(): number {
  return nextContext++;
}

/** A promise of the hardware to finish its use of a buffer (struct dma_fence). `signal` keeps it. */
export class DmaFence {
  /** The timeline of the fence. Fences of one context signal in the order of `seqno`. */
  readonly context: number;
  /** The place of the fence on its timeline. */
  readonly seqno: number;
  /** Names the fence in timelines and findings. */
  readonly label: string;
  /** Set before `signal`, when the work that the fence stands for failed. */
  error: ErrnoName | null = null;
  /** Done once the fence is signalled. */
  readonly completion: Completion;

  constructor(label = 'fence', context = allocateFenceContext(), seqno = 1, isSignaled = false) {
    this.label = label;
    this.context = context;
    this.seqno = seqno;
    this.completion = new Completion(label, isSignaled);
  }

  /** dma_fence_get_stub: a fence that has always been signalled. */
  static stub(): DmaFence {
    return new DmaFence('stub', 0, 0, true);
  }

  /** dma_fence_is_signaled, as a step: other tasks may signal it at any time. */
  testSignaled(): Task<boolean> {
    return this.completion.test();
  }

  /** As `testSignaled`, without a step. Use only where no task can signal meanwhile, or a stale answer is harmless. */
  get isSignaled(): boolean {
    return this.completion.isDone;
  }

  /** dma_fence_signal. Signalling twice does nothing; a fence that is never signalled blocks every revoke (I7). */
  signal(): Task<void> {
    return this.completion.complete();
  }

  /** dma_fence_wait, uninterruptible and without a timeout. `signal` ends the wait. */
  wait(): Task<void> {
    return this.completion.wait();
  }
}
