/**
 * A blocking importer: a session with the exporter of a dma-buf in another process, for programs. It answers the
 * exporter's requests while a call waits, and in `poll`. A program that does not call `poll` loses the buffer by force.
 */
import type { ErrnoName } from '../../abi/errno.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import { EventLoop } from '../wire/event-loop.ts';
import { type BufferInfo, DmaBufImporter, type ImporterEvents, type RemoteRanges } from './importer.ts';

/** An importer whose calls block. It answers the exporter during its calls, and in `poll`. */
export class BlockingImporter {
  private readonly loop: EventLoop;
  private readonly ownsLoop: boolean;
  private readonly importer: DmaBufImporter;

  /**
   * Opens a session through a descriptor of the buffer. The descriptor stays the caller's, and may be closed
   * afterwards. ENOTSOCK for a descriptor that cannot be a lent dma-buf, ETIMEDOUT without an answer, EMFILE where the
   * exporter takes no more sessions. With a `loop` of the caller's, the session also answers while that loop turns.
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

  /** False once either side has ended the session. */
  get isOpen(): boolean {
    return this.importer.isOpen;
  }

  /** As DmaBufImporter.query. */
  query(): BufferInfo {
    return this.run(this.importer.query());
  }

  /** As DmaBufImporter.setName. */
  setName(name: string): void {
    this.run(this.importer.setName(name));
  }

  /** As DmaBufImporter.attach. The other calls follow DmaBufImporter likewise. */
  attach(): number {
    return this.run(this.importer.attach());
  }

  /** As DmaBufImporter.detach. */
  detach(attachment: number): void {
    this.run(this.importer.detach(attachment));
  }

  /** As DmaBufImporter.map. */
  map(attachment: number, writable = true): RemoteRanges {
    return this.run(this.importer.map(attachment, writable));
  }

  /** As DmaBufImporter.unmap. */
  unmap(mapping: number): void {
    this.run(this.importer.unmap(mapping));
  }

  /** As DmaBufImporter.addFence. */
  addFence(attachment: number, usage: DmaResvUsage): number {
    return this.run(this.importer.addFence(attachment, usage));
  }

  /** As DmaBufImporter.signalFence. */
  signalFence(fence: number, error: ErrnoName | null = null): void {
    this.run(this.importer.signalFence(fence, error));
  }

  /** As DmaBufImporter.wait. */
  wait(events: number, timeoutMs: number): number {
    return this.run(this.importer.wait(events, timeoutMs));
  }

  /** Answers the exporter's requests; waits for one at most `timeoutMs` (-1: without end). False after that time. */
  poll(timeoutMs: number): boolean {
    return this.loop.turn(timeoutMs);
  }

  /** Ends the session: the exporter drops its attachments, mappings and fences. */
  close(): void {
    this.importer.close();
    if (this.ownsLoop) this.loop.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  private run<T>(task: Task<T>): T {
    const handle = runner.start('call of an exporter', settled(task));
    // An event makes the task runnable. A turn that began with the event would then wait for the next one.
    while (!handle.ended) if (!runner.drainRound() && !handle.ended) this.loop.turn(-1);
    const { value, error } = handle.result!;
    if (error !== undefined) throw error;
    return value as T;
  }
}

/** Returns how a task ended, as a value. A failure goes to the caller; the runner must not report it as a defect. */
function* settled<T>(task: Task<T>): Task<{ value?: T; error?: unknown }> {
  try {
    return { value: yield* task };
  } catch (error) {
    return { error };
  }
}
