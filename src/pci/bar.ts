/** Base address registers (PCI 3.0, 6.2.5.1): the addresses that a function answers on the bus. */
import { Errno } from '../abi/errno.ts';
import {
  PCI_BASE_ADDRESS_0,
  PCI_BASE_ADDRESS_MEM_PREFETCH,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_STD_NUM_BARS,
} from '../abi/pci_regs.ts';
import { Plain } from '../task/plain.ts';
import type { ConfigSpace } from './config-space.ts';
import type { Memory } from './memory.ts';

/** Memory with a 32-bit or 64-bit address, or I/O ports. */
export type BarKind = 'mem32' | 'mem64' | 'io';

/** A register at which a write of one value only rings: an eventfd may stand for the write. */
export interface Doorbell {
  /** In bytes from the start of the BAR. */
  readonly offset: number;
  /** The size of writes that ring. */
  readonly sizeBytes: number;
  /** The value that rings. */
  readonly datamatch: number;
  /** Acts as one or several such writes. May start tasks of the device; must not wait. */
  ring(): void;
}

/** The memory or registers behind a BAR. Called with offsets inside the BAR. */
export interface BarTarget {
  /** The bytes, if the BAR is plain memory and may be mapped; null for registers. */
  readonly memory: Memory | null;
  /** Registers that eventfds may stand for; none by default. */
  readonly doorbells?: readonly Doorbell[];
  /** Fills `into` with the bytes from `offset`. Must not wait. */
  read(offset: number, into: Uint8Array): void;
  /** May start tasks of the device (a doorbell); must not wait. */
  write(offset: number, from: Uint8Array): void;
}

/** A BAR of plain memory. */
export class MemoryTarget implements BarTarget {
  readonly memory: Memory;

  constructor(memory: Memory) {
    this.memory = memory;
  }

  /** As `Memory.read`. */
  read(offset: number, into: Uint8Array): void {
    this.memory.read(offset, into);
  }

  /** As `Memory.write`. */
  write(offset: number, from: Uint8Array): void {
    this.memory.write(offset, from);
  }
}

/** A base address register with what it answers for. */
export class Bar {
  /** 0 to 5. A 64-bit BAR takes the next slot too. */
  readonly index: number;
  /** Memory or I/O ports. */
  readonly kind: BarKind;
  /** Whether reads have no side effects. For memory only. */
  readonly prefetchable: boolean;
  /**
   * A power of two: at least 16 for memory. An I/O BAR may have 1 or 2 ports (legacy IDE), though its register decodes
   * no fewer than 4.
   */
  readonly sizeBytes: number;
  /** The memory or registers that answer. */
  readonly target: BarTarget;
  /** Host address; the fabric assigns it. */
  address = 0;
  private readonly claim = new Plain('claimed', false);

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

  /** A driver has requested the region: no other driver may use its addresses. */
  get claimed(): boolean {
    return this.claim.get();
  }

  /** A driver requests the region, or gives it back. */
  set claimed(isClaimed: boolean) {
    this.claim.set(isClaimed);
  }

  /** The low bits of the register, which tell what kind of BAR it is. */
  get typeBits(): number {
    if (this.kind === 'io') return PCI_BASE_ADDRESS_SPACE_IO;
    const prefetch = this.prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0;
    return prefetch | (this.kind === 'mem64' ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0);
  }

  /** Makes the address bits that the size leaves writable in the register. */
  declareRegister(config: ConfigSpace): void {
    config.set(this.register, 4, this.typeBits);
    const lowMask = this.sizeBytes >= 2 ** 32 ? 0 : ~(Math.max(4, this.sizeBytes) - 1) >>> 0;
    config.allow(this.register, 4, lowMask);
    const highMask = this.sizeBytes <= 2 ** 32 ? 0xffffffff : ~(this.sizeBytes / 2 ** 32 - 1) >>> 0;
    if (this.kind === 'mem64') config.allow(this.register + 4, 4, highMask);
  }

  /** Puts the assigned address into the register. */
  writeAddress(config: ConfigSpace): void {
    config.set(this.register, 4, ((this.address % 2 ** 32) | this.typeBits) >>> 0);
    if (this.kind === 'mem64') config.set(this.register + 4, 4, Math.floor(this.address / 2 ** 32));
  }

  private get register(): number {
    return PCI_BASE_ADDRESS_0 + 4 * this.index;
  }
}

/** Throws EINVAL unless there are six slots, each BAR is in the slot of its index, and no BAR is in another's half. */
export function checkSlots(name: string, slots: readonly (Bar | null)[]): void {
  const refuse = (why: string) => new Errno('EINVAL', `${name}: ${why}`);
  if (slots.length !== PCI_STD_NUM_BARS) {
    throw refuse(`${slots.length} slots for BARs instead of ${PCI_STD_NUM_BARS}; empty ones are null`);
  }
  for (const [slot, bar] of slots.entries()) {
    if (bar === null) continue;
    if (bar.index !== slot) throw refuse(`slot ${slot} has the BAR of index ${bar.index}; they must be the same`);
    if (bar.kind !== 'mem64') continue;
    if (slot === PCI_STD_NUM_BARS - 1) throw refuse(`BAR ${slot} is mem64 and has no next slot for its upper half`);
    if (slots[slot + 1] !== null) throw refuse(`slot ${slot + 1} must be null: it is the upper half of BAR ${slot}`);
  }
}
