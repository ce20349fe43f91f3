/** Base address registers (PCI 3.0, 6.2.5.1): what a function answers for on the bus. */
import { Errno } from '../abi/errno.ts';
import {
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
} from '../abi/pci_regs.ts';
import type { Memory } from './memory.ts';

export type BarKind = 'mem32' | 'mem64' | 'io';

/** A register where a write of one value says nothing but that it happened: others may carry the news. */
export interface Doorbell {
  /** In the BAR. */
  readonly offset: number;
  /** Of the writes that ring. */
  readonly sizeBytes: number;
  /** The value that rings. */
  readonly datamatch: number;
  /** As one such write, or several. May start tasks of the device, never waits. */
  ring(): void;
}

/** What answers behind a BAR. Called with offsets inside of the BAR. */
export interface BarTarget {
  /** The bytes, where the BAR is nothing but memory and may be mapped; null for registers. */
  readonly memory: Memory | null;
  readonly doorbells?: readonly Doorbell[];
  read(offset: number, into: Uint8Array): void;
  /** May start tasks of the device (a doorbell), never waits. */
  write(offset: number, from: Uint8Array): void;
}

/** A BAR that is memory. */
export class MemoryTarget implements BarTarget {
  readonly memory: Memory;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  read(offset: number, into: Uint8Array): void {
    this.memory.read(offset, into);
  }

  write(offset: number, from: Uint8Array): void {
    this.memory.write(offset, from);
  }
}

export class Bar {
  /** 0 to 5; a 64-bit BAR takes the next slot too. */
  readonly index: number;
  readonly kind: BarKind;
  readonly prefetchable: boolean;
  /**
   * A power of two: at least 16 for memory. An I/O BAR may have 1 or 2 ports (legacy IDE), though its register decodes
   * no fewer than 4.
   */
  readonly sizeBytes: number;
  readonly target: BarTarget;
  /** Host address; the fabric assigns it. */
  address = 0;
  /** A driver requested the region: nobody else may use its addresses. */
  claimed = false;

  constructor(index: number, kind: BarKind, prefetchable: boolean, sizeBytes: number, target: BarTarget) {
    const smallest = kind === 'io' ? 1 : 16;
    if (sizeBytes < smallest || !Number.isInteger(Math.log2(sizeBytes))) {
      throw new Errno('EINVAL', `BAR ${index} of ${sizeBytes} bytes: a power of two from ${smallest} on is needed`);
    }
    this.index = index;
    this.kind = kind;
    this.prefetchable = prefetchable;
    this.sizeBytes = sizeBytes;
    this.target = target;
  }

  /** The low bits of the register, which tell what kind of BAR it is. */
  get typeBits(): number {
    if (this.kind === 'io') return PCI_BASE_ADDRESS_SPACE_IO;
    const prefetch = this.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
    return prefetch | (this.kind === 'mem64' ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0);
  }
}
