/** The INVALIDATEs that an importer has not yet fulfilled. */
import type { Deadline } from '../wire/deadlines.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import type { InvalidateRequest } from './remote-mapping.ts';

interface PendingInvalidate {
  readonly request: InvalidateRequest;
  answered: boolean;
  /** The fences before this index are signalled. */
  signaled: number;
  readonly report: Deadline;
  readonly deadline: Deadline;
}

export class PendingInvalidates {
  private readonly loop: EventLoop;
  private readonly pending = new Map<number, PendingInvalidate>();

  constructor(loop: EventLoop) {
    this.loop = loop;
  }

  get size(): number {
    return this.pending.size;
  }

  has(id: number): boolean {
    return this.pending.has(id);
  }

  /**
   * `onReport` is called after `reportMs`, `onTimeout` after `timeoutMs`, unless the importer gives all back before.
   */
  add(
    id: number,
    request: InvalidateRequest,
    times: { reportMs: number; onReport: () => void; timeoutMs: number; onTimeout: () => void },
  ): void {
    const report = this.loop.after(times.reportMs, times.onReport);
    const deadline = this.loop.after(times.timeoutMs, times.onTimeout);
    this.pending.set(id, { request, answered: false, signaled: 0, report, deadline });
  }

  /** Takes the answer to message `id`. Returns null where no answer to it is due. */
  answer(id: number): InvalidateRequest | null {
    const entry = this.pending.get(id);
    if (entry === undefined || entry.answered) return null;
    entry.answered = true;
    return entry.request;
  }

  /** Removes the INVALIDATEs that are fulfilled: answered, with every fence signalled. */
  settle(): void {
    for (const [id, entry] of this.pending) {
      const { fences } = entry.request;
      if (!entry.answered) continue;
      while (entry.signaled < fences.length && fences[entry.signaled].isSignaled) entry.signaled += 1;
      if (entry.signaled === fences.length) this.remove(id, entry);
    }
  }

  clear(): void {
    for (const [id, entry] of this.pending) this.remove(id, entry);
  }

  private remove(id: number, { report, deadline }: PendingInvalidate): void {
    this.loop.cancel(report);
    this.loop.cancel(deadline);
    this.pending.delete(id);
  }
}
