import type { Memory, MemoryProvider } from '../pci/memory.ts';
import type { OwnedFd } from './fd.ts';
import { PAGE_SIZE } from './mapping.ts';
import { createMemfd, dataExtents } from './memfd.ts';
import { copyPlaced, type PlacedMemory } from './placed-memory.ts';
import { mapMemory } from './segmented-memory.ts';

/**
 * The bytes of a BAR as a sealed memfd: mapped here, and shared with every process that gets the descriptor. No process
 * can take a mapping back from another: a client that maps a BAR directly keeps it until it unmaps it
 * (docs/differences.md).
 */
class MemfdMemory implements PlacedMemory {
  readonly isGuarded = false;
  readonly sizeBytes: number;
  readonly fdOffset = 0;
  readonly #label: string;
  #memfd: OwnedFd;
  #mapping: PlacedMemory;

  constructor(label: string, sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#label = label;
    const { memfd, mapping } = this.#make();
    this.#memfd = memfd;
    this.#mapping = mapping;
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

  place(offset: number, length: number, isWrite: boolean): number {
    return this.#mapping.place(offset, length, isWrite);
  }

  copyTo(offset: number, target: Memory, targetOffset: number, length: number): boolean {
    return copyPlaced(this, offset, target, targetOffset, length);
  }

  /** Moves to a fresh memfd, and copies only the pages that were ever written. An empty BAR costs nothing. */
  renew(): void {
    const old = { memfd: this.#memfd, mapping: this.#mapping };
    const fresh = this.#make();
    try {
      for (const { offset, sizeBytes } of dataExtents(old.memfd.fd, this.sizeBytes)) {
        copy(old.mapping, fresh.mapping, offset, sizeBytes);
      }
    } catch (error) {
      release(fresh);
      throw error;
    }
    this.#memfd = fresh.memfd;
    this.#mapping = fresh.mapping;
    release(old);
  }

  extents(): Iterable<{ offset: number; sizeBytes: number }> {
    return dataExtents(this.#memfd.fd, this.sizeBytes);
  }

  close(): void {
    release({ memfd: this.#memfd, mapping: this.#mapping });
  }

  #make(): BarFile {
    const fileBytes = Math.max(this.sizeBytes, PAGE_SIZE);
    const memfd = createMemfd(this.#label, fileBytes);
    try {
      return { memfd, mapping: mapMemory(memfd.duplicate(), fileBytes) };
    } catch (error) {
      memfd.close();
      throw error;
    }
  }
}

interface BarFile {
  memfd: OwnedFd;
  mapping: PlacedMemory;
}

function release({ memfd, mapping }: BarFile): void {
  mapping.close();
  memfd.close();
}

const COPY_BYTES = 1 << 20;

function copy(from: PlacedMemory, to: PlacedMemory, start: number, length: number): void {
  const chunk = new Uint8Array(Math.min(COPY_BYTES, length));
  for (let at = 0; at < length; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, length - at));
    from.read(start + at, part);
    to.write(start + at, part);
  }
}

/** The memory of BARs in production. Pages cost memory once they are touched. */
export const memfdMemory: MemoryProvider = (label, sizeBytes) => new MemfdMemory(`barter:${label}`, sizeBytes);
