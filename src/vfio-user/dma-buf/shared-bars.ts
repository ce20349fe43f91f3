/**
 * The holders of a BAR's memory. A memfd that another process has mapped cannot be taken from it. The BAR moves to a
 * fresh one instead, so that a holder that kept the old one sees nothing new and writes to nobody.
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

  /** Somebody gets the memory's descriptor: a client that maps the BAR itself, an importer that maps a buffer. */
  hold(memory: Memory): void {
    this.holders.set(memory, (this.holders.get(memory) ?? 0) + 1);
  }

  /** It was given back; `stillMapped` says that it was not, and that the holder can still reach it. */
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
