/**
 * The holders of a BAR's memory. A memfd cannot be taken from another process that has mapped it. The BAR moves to a
 * fresh memfd instead. A holder that keeps the old one then reads stale bytes, and its writes reach nobody.
 */
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';
import type { Log } from '../wire/log.ts';

export class SharedBars {
  private readonly holders = new Map<Memory, number>();
  private readonly stale = new Set<Memory>();
  private readonly log: Log;

  constructor(log: Log) {
    this.log = log;
  }

  /** Counts a holder of the memory's descriptor: a client that maps the BAR, or an importer that maps a buffer. */
  hold(memory: Memory): void {
    this.holders.set(memory, (this.holders.get(memory) ?? 0) + 1);
  }

  /** Drops a holder. With `stillMapped`, it did not give the memory back and can still reach it. */
  *drop(memory: Memory, stillMapped: boolean): Task {
    const left = this.holders.get(memory)! - 1;
    if (left > 0) this.holders.set(memory, left);
    else this.holders.delete(memory);
    if (stillMapped && memory.renew !== undefined) this.stale.add(memory);
    if (left === 0 && this.stale.has(memory)) this.renew(memory);
  }

  private renew(memory: Memory): void {
    try {
      memory.renew!();
      this.stale.delete(memory);
    } catch (error) {
      const about = { level: 'error', cause: 'move', client: 'an importer' } as const;
      this.log(`a BAR cannot be moved away from an importer that keeps it: ${(error as Error).message}`, about);
    }
  }
}
