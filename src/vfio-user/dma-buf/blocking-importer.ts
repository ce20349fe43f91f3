/**
 * An importer that blocks, for programs of one's own: a session with the exporter of a dma-buf in another process. What
 * the exporter asks for is answered while a call waits, and in `poll`: call it, or the buffer is taken away by force.
 */
import type { ErrnoName } from '../../abi/errno.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import { EventLoop } from '../wire/event-loop.ts';
import { type BufferInfo, DmaBufImporter, type ImporterEvents, type RemoteRanges } from './importer.ts';

export class BlockingImporter {
  private readonly loop: EventLoop;
  private readonly ownsLoop: boolean;
  private readonly importer: DmaBufImporter;

  /**
   * Opens a session through a descriptor of the buffer, which stays the caller's and is not needed any more. ENOTSOCK
   * for what cannot be a lent dma-buf, ETIMEDOUT where nobody answers, EMFILE where the exporter takes no more. A
   * `loop` of the caller's answers while the caller lets it turn.
   */
  constructor(buffer: OwnedFd, events: ImporterEvents, loop: EventLoop | null = null) {
    this.loop = loop ?? new EventLoop();
    this.ownsLoop = loop === null;
    try {
      this.importer = new DmaBufImporter(this.loop, buffer.fd, events);
    } catch (error) {
      if (this.ownsLoop) this.loop.close();
      throw error;
    }
    try {
      this.run(this.importer.opened());
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get isOpen(): boolean {
    return this.importer.isOpen;
  }

  query(): BufferInfo {
    return this.run(this.importer.query());
  }

  setName(name: string): void {
    this.run(this.importer.setName(name));
  }

  /** As DmaBufImporter.attach; the others likewise. */
  attach(): number {
    return this.run(this.importer.attach());
  }

  detach(attachment: number): void {
    this.run(this.importer.detach(attachment));
  }

  map(attachment: number, writable = true): RemoteRanges {
    return this.run(this.importer.map(attachment, writable));
  }

  unmap(mapping: number): void {
    this.run(this.importer.unmap(mapping));
  }

  addFence(attachment: number, usage: DmaResvUsage): number {
    return this.run(this.importer.addFence(attachment, usage));
  }

  signalFence(fence: number, error: ErrnoName | null = null): void {
    this.run(this.importer.signalFence(fence, error));
  }

  wait(events: number, timeoutMs: number): number {
    return this.run(this.importer.wait(events, timeoutMs));
  }

  /** Answers what the exporter asks for; waits for it at most `timeoutMs` (-1 without end). False after that time. */
  poll(timeoutMs: number): boolean {
    return this.loop.turn(timeoutMs);
  }

  close(): void {
    this.importer.close();
    if (this.ownsLoop) this.loop.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private run<T>(task: Task<T>): T {
    const handle = runner.start('call of an exporter', settled(task));
    // An event makes the task runnable; a turn that began with it would then wait for the next.
    while (!handle.ended) if (!runner.drainRound() && !handle.ended) this.loop.turn(-1);
    const { value, error } = handle.result!;
    if (error !== undefined) throw error;
    return value as T;
  }
}

/** How a task ended, as a value: a failure is its caller's, and no defect that the runner should report. */
function* settled<T>(task: Task<T>): Task<{ value?: T; error?: unknown }> {
  try {
    return { value: yield* task };
  } catch (error) {
    return { error };
  }
}
