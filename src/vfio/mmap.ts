/** A user's mapping of a BAR through the vfio device: the only kind of mapping that can be revoked. */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import { VFIO_PCI_ROM_REGION_INDEX } from '../abi/vfio.ts';
import type { Bar } from '../pci/bar.ts';
import type { PciFunction } from '../pci/function.ts';
import { Cell } from '../task/cell.ts';
import type { RwSemaphore } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import type { ZappedMapping } from './dmabuf.ts';

/** A device whose BARs its user maps. */
export interface MappableDevice {
  readonly pdev: PciFunction;
  readonly memoryLock: RwSemaphore;
  readonly mappings: Set<ZappedMapping>;
  readonly lowPower: { readonly engaged: Cell<boolean> };
  readonly isOpen: boolean;
  isMappable(bar: Bar): boolean;
  memoryEnabled(): boolean;
}

/** The signal that the kernel would send: the page exists, but its memory does not answer. */
export class BusError extends Error {
  constructor(message: string) {
    super(`SIGBUS: ${message}`);
    this.name = 'BusError';
  }
}

/** The pages of a process's mapping. Any access may fault them in again while the memory may be used. */
export abstract class MappedPages implements ZappedMapping {
  /** The page tables have entries: the next access needs no fault. */
  protected readonly present = new Cell('vma.present', false);

  /** Called by the device with memory_lock held for write, before its memory stops answering. */
  zap(): Task {
    return this.present.store(false);
  }

  /**
   * Does the access, and the page fault before it. An access through a present page ends before a zap returns: the zap
   * shoots the page down on every CPU.
   */
  protected *touch(access: () => void): Task {
    const attempt = (isPresent: boolean): boolean => {
      if (isPresent) access();
      return isPresent;
    };
    while (!(yield* this.present.loadFor(attempt))) yield* this.fault();
  }

  /** Sets `present`, under memory_lock for read so that it misses no zap. BusError where the memory is not usable. */
  protected abstract fault(): Task;
}

/**
 * Checks each access at the call. It does not promise that two accesses see the same state, or that an access comes
 * before a revoke that another task has begun. It gives out no view that outlives the call.
 */
export class BarMapping extends MappedPages {
  readonly sizeBytes: number;
  private readonly vdev: MappableDevice;
  private readonly bar: Bar;
  private readonly offset: number;
  private unmapped = false;

  /** vfio_pci_core_mmap. EINVAL for a region that is not a mappable BAR, or a slice that leaves it. */
  constructor(vdev: MappableDevice, regionIndex: number, offset: number, sizeBytes: number) {
    const bar = regionIndex < VFIO_PCI_ROM_REGION_INDEX ? (vdev.pdev.bars[regionIndex] ?? null) : null;
    if (bar === null || !vdev.isMappable(bar)) {
      throw new Errno('EINVAL', `region ${regionIndex} of ${vdev.pdev.name} cannot be mapped`);
    }
    // A BAR smaller than a page shares its page with no other; the rest of the page does not answer.
    if (offset < 0 || sizeBytes <= 0 || offset + sizeBytes > Math.max(bar.sizeBytes, PAGE_SIZE)) {
      throw new Errno('EINVAL', `bytes ${offset} to ${offset + sizeBytes} leave the ${bar.sizeBytes} of the region`);
    }
    super();
    this.vdev = vdev;
    this.bar = bar;
    this.offset = offset;
    this.sizeBytes = sizeBytes;
    vdev.mappings.add(this);
  }

  /** A load by the CPU. BusError while memory is off. */
  *read(offset: number, into: Uint8Array): Task {
    this.check(offset, into.length);
    const backed = this.backed(offset, into.length);
    into.fill(0xff, backed);
    yield* this.touch(() => this.mmio(offset, into.subarray(0, backed), false));
  }

  /** A store by the CPU. BusError while memory is off. */
  *write(offset: number, from: Uint8Array): Task {
    this.check(offset, from.length);
    const part = from.subarray(0, this.backed(offset, from.length));
    yield* this.touch(() => this.mmio(offset, part, true));
  }

  /** Accesses past the end of a small BAR do not reach the device. */
  private mmio(offset: number, bytes: Uint8Array, isWrite: boolean): void {
    if (bytes.length > 0) this.vdev.pdev.mmio(this.bar, this.offset + offset, bytes, isWrite);
  }

  /** How many of `length` bytes from `offset` lie in the BAR. */
  private backed(offset: number, length: number): number {
    return Math.min(length, Math.max(0, this.bar.sizeBytes - this.offset - offset));
  }

  /** munmap(2). */
  unmap(): void {
    this.unmapped = true;
    this.vdev.mappings.delete(this);
  }

  /** Maps the page if memory is on. */
  protected *fault(): Task {
    yield* this.vdev.memoryLock.read();
    const enabled = this.vdev.isOpen && !this.vdev.lowPower.engaged.value && this.vdev.memoryEnabled();
    if (enabled) yield* this.present.store(true);
    yield* this.vdev.memoryLock.releaseRead();
    if (!enabled) throw new BusError(`memory of ${this.vdev.pdev.name} is off`);
  }

  private check(offset: number, length: number): void {
    if (this.unmapped || offset < 0 || offset + length > this.sizeBytes) {
      throw new BusError(`bytes ${offset} to ${offset + length} are not mapped`);
    }
  }
}
