/** The WAITs of importers. Many WAITs for the same fences cost no more than one. */
import { DMA_BUF_SOCKET_POLLIN, DMA_BUF_SOCKET_POLLOUT } from '../../abi/dma-buf-socket.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import type { DmaFence } from '../../dma-buf/fence.ts';
import { DMA_RESV_USAGE_READ, DMA_RESV_USAGE_WRITE, type DmaResvUsage } from '../../dma-buf/resv.ts';
import { Completion } from '../../task/completion.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { EventLoop } from '../wire/event-loop.ts';

/** One WAIT. */
export interface FenceWait {
  readonly over: Completion;
  /** The wait is over because all its events have happened. */
  isReady: boolean;
  /** The session has ended. */
  isGivenUp: boolean;
}

/** Ends WAITs whose session has ended. */
export function giveUp(waits: Iterable<FenceWait>): void {
  for (const wait of [...waits]) {
    wait.isGivenUp = true;
    runner.run(wait.over.complete());
  }
}

/** The waiters for the fences of one usage of one buffer. */
class Watch {
  private readonly waits = new Set<FenceWait>();
  private readonly dmabuf: DmaBuf;
  private readonly usage: DmaResvUsage;
  private isWatching = false;
  /** A fence of the usage. While it is pending, the others need no look. */
  private pending: DmaFence | null = null;

  constructor(dmabuf: DmaBuf, usage: DmaResvUsage) {
    this.dmabuf = dmabuf;
    this.usage = usage;
  }

  get isReady(): boolean {
    if (this.pending !== null && !this.pending.isSignaled) return false;
    this.pending = this.dmabuf.resv.fences(this.usage).find((fence) => !fence.isSignaled) ?? null;
    return this.pending === null;
  }

  add(wait: FenceWait): void {
    this.waits.add(wait);
    if (this.isWatching) return;
    this.isWatching = true;
    runner.start('WAITs of importers', this.watch());
  }

  delete(wait: FenceWait): void {
    this.waits.delete(wait);
  }

  /** Waits for every fence once, for all waiters together. Ends when the fences are signalled. */
  private *watch(): Task {
    const { resv } = this.dmabuf;
    while (this.waits.size > 0) {
      yield* resv.lock.lock();
      const fences = resv.fences(this.usage);
      yield* resv.lock.unlock();
      for (const fence of fences) yield* fence.wait();
      if (!this.isReady) continue;
      for (const wait of this.waits) {
        wait.isReady = true;
        yield* wait.over.complete();
      }
      this.waits.clear();
    }
    this.isWatching = false;
  }
}

export class FenceWaits {
  private readonly loop: EventLoop;
  private readonly pollin: Watch;
  private readonly pollout: Watch;

  constructor(loop: EventLoop, dmabuf: DmaBuf) {
    this.loop = loop;
    this.pollin = new Watch(dmabuf, DMA_RESV_USAGE_WRITE);
    this.pollout = new Watch(dmabuf, DMA_RESV_USAGE_READ);
  }

  /** Returns those of `events` that have happened. */
  private ready(events: number): number {
    const pollin = (events & DMA_BUF_SOCKET_POLLIN) !== 0 && this.pollin.isReady ? DMA_BUF_SOCKET_POLLIN : 0;
    const pollout = (events & DMA_BUF_SOCKET_POLLOUT) !== 0 && this.pollout.isReady ? DMA_BUF_SOCKET_POLLOUT : 0;
    return pollin | pollout;
  }

  /**
   * Waits until all of `events` have happened, at most `timeoutMs` (null: without end); returns those that have.
   * `waits` lists the WAIT meanwhile, so that its owner can give it up.
   */
  *wait(events: number, timeoutMs: number | null, waits: Set<FenceWait>): Task<number> {
    const ready = this.ready(events);
    if (ready === events || timeoutMs === 0) return ready;
    // The fences of POLLOUT include those of POLLIN.
    const watch = (events & DMA_BUF_SOCKET_POLLOUT) !== 0 ? this.pollout : this.pollin;
    const over = new Completion('WAIT of an importer');
    const wait: FenceWait = { over, isReady: false, isGivenUp: false };
    const onTime = () => runner.run(over.complete());
    const deadline = timeoutMs === null ? null : this.loop.after(timeoutMs, onTime);
    waits.add(wait);
    watch.add(wait);
    // The fences, the deadline or the end of the session ends this wait.
    yield* over.wait();
    watch.delete(wait);
    waits.delete(wait);
    if (deadline !== null) this.loop.cancel(deadline);
    if (wait.isReady) return events;
    // Skip the check when the session has ended: nobody reads the answer, and thousands of waits may end at once.
    return wait.isGivenUp ? 0 : this.ready(events);
  }
}
