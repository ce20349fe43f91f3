/**
 * Who else has the memory of a BAR. A memfd that another process has mapped cannot be taken from it; what can be done
 * is to move the BAR to a fresh one, so that whoever kept the old one sees nothing new and writes to nobody.
 */
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';

export class SharedBars {
  private readonly holders = new Map<Memory, number>();
  private readonly stale = new Set<Memory>();
  private readonly log: (line: string) => void;

  constructor(log: (line: string) => void) {
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
      this.log(`a BAR cannot be moved away from an importer that keeps it: ${(error as Error).message}`);
    }
  }
}
