import type { Memory, MemoryProvider } from '../pci/memory.ts';
import type { OwnedFd } from './fd.ts';
import { type Mapping, PAGE_SIZE } from './mapping.ts';
import { createMemfd } from './memfd.ts';
import { mapMemory, type SegmentedMapping } from './segmented-mapping.ts';

/**
 * The bytes of a BAR as a sealed memfd: mapped here, and shared with every process that gets the descriptor. Nobody can
 * take a mapping back from another process, so what a client of a BAR maps directly it keeps until it unmaps it
 * (docs/differences.md).
 */
class MemfdMemory implements Memory {
  readonly sizeBytes: number;
  readonly fdOffset = 0;
  readonly #memfd: OwnedFd;
  readonly #mapping: Mapping | SegmentedMapping;

  constructor(label: string, sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    const fileBytes = Math.max(sizeBytes, PAGE_SIZE);
    this.#memfd = createMemfd(label, fileBytes);
    try {
      this.#mapping = mapMemory(this.#memfd.duplicate(), 0, fileBytes, true);
    } catch (error) {
      this.#memfd.close();
      throw error;
    }
  }

  get fd(): number {
    return this.#memfd.fd;
  }

  read(offset: number, into: Uint8Array): void {
    this.#mapping.read(offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.#mapping.write(offset, from);
  }

  close(): void {
    this.#mapping.close();
    this.#memfd.close();
  }
}

/** What production puts behind a BAR. Pages cost memory once they are touched. */
export const memfdMemory: MemoryProvider = (label, sizeBytes) => new MemfdMemory(`barter:${label}`, sizeBytes);
