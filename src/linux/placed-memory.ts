/** Memory of this process at an address: the base of BARs and of client memory. */
import { Errno } from '../abi/errno.ts';
import { MAP_NORESERVE, MAP_SHARED, PROT_READ, PROT_WRITE } from '../abi/mman.ts';
import type { Memory } from '../pci/memory.ts';
import { check, sys } from './ffi.ts';
import { readGuarded, readGuardedBytes, writeGuarded, writeGuardedBytes } from './guarded-copy.ts';
import { type SlotRequest, ViewSlot } from './view-slot.ts';

/** The bytes of an access to a register or ring: one load or store of the CPU. */
const WORD = 4;
const LONG = 8;
/** The size of most devices' descriptors. */
const SHORT = 64;

/** Eight bytes, as a number and as bytes. */
const long = new BigUint64Array(1);
const longBytes = new Uint8Array(long.buffer);

/** Memory with an address, so that a copy between two of them needs no buffer. */
export interface PlacedMemory extends Memory {
  /** An access may fault: only the kernel may make it (guarded-copy.ts). */
  readonly isGuarded: boolean;
  /**
   * Returns the address of `length` bytes at `offset`, valid until the memory is closed; 0 where they are not in one
   * piece. EINVAL outside the memory, EACCES for a write of read-only memory, EFAULT after close.
   */
  place(offset: number, length: number, isWrite: boolean): number;
}

/** Copies as Memory.copyTo says. EFAULT where one of the two memories fails. */
export function copyPlaced(
  source: PlacedMemory,
  offset: number,
  target: Memory,
  targetOffset: number,
  length: number,
): boolean {
  if (!isPlaced(target)) return false;
  const from = source.place(offset, length, false);
  const to = target.place(targetOffset, length, true);
  if (from === 0 || to === 0) return false;
  if (!source.isGuarded && !target.isGuarded) {
    sys.memcpy(to, from, length);
    return true;
  }
  // The kernel copies page by page, forwards.
  if (Math.abs(from - to) < length) return false;
  if (!(source.isGuarded ? readGuarded : writeGuarded)(to, from, length)) {
    throw new Errno('EFAULT', `a copy of ${length} bytes: the memory does not answer`);
  }
  return true;
}

function isPlaced(memory: Memory): memory is PlacedMemory {
  return 'place' in memory;
}

/** The common part of all kinds: the bounds, and the refusal after close. */
abstract class MappedFile implements PlacedMemory {
  readonly sizeBytes: number;
  readonly writable: boolean;
  abstract readonly isGuarded: boolean;
  protected readonly what: string;
  protected address: number;

  constructor({ sizeBytes, writable, what }: SlotRequest, address: number) {
    this.sizeBytes = sizeBytes;
    this.writable = writable;
    this.what = what;
    this.address = address;
  }

  abstract read(offset: number, into: Uint8Array): void;
  abstract write(offset: number, from: Uint8Array): void;
  protected abstract unmap(): void;

  place(offset: number, length: number, isWrite: boolean): number {
    this.reach(offset, length, isWrite);
    return this.address + offset;
  }

  copyTo(offset: number, target: Memory, targetOffset: number, length: number): boolean {
    return copyPlaced(this, offset, target, targetOffset, length);
  }

  /** Unmaps the memory; doing so again does nothing. Throws where the kernel refuses. */
  close(): void {
    if (this.address === 0) return;
    this.unmap();
  }

  protected reach(offset: number, length: number, isWrite: boolean): void {
    if (this.address === 0) throw new Errno('EFAULT', `${this.what}: used after it was unmapped`);
    if (!Number.isSafeInteger(offset) || offset < 0 || length > this.sizeBytes - offset) {
      throw new Errno('EINVAL', `${this.what}: ${length} bytes at ${offset} of ${this.sizeBytes}`);
    }
    if (isWrite && !this.writable) throw new Errno('EACCES', `${this.what} is mapped read-only`);
  }
}

/**
 * Memory of a file that no other process can take away: a memfd of ordinary pages that cannot shrink. Loads and stores
 * go to its mapping directly. It hands out no view of itself, so that nothing outlives `close`.
 *
 * It does not promise:
 *  - that bytes hold still: other processes and devices write them at any time. Accesses of 4 bytes, and aligned ones
 *    of 8, are single loads and stores; longer ones may be torn. Read once, check the copy, use the copy.
 *  - that a page is available when it is first touched: a machine without memory kills processes.
 */
export class MappedMemory extends MappedFile {
  readonly isGuarded = false;
  readonly #slot: ViewSlot;

  /** Maps; `request.sizeBytes` is at most MAX_SLOT_BYTES. Throws the errno of mmap(2). */
  constructor(request: SlotRequest) {
    const slot = ViewSlot.map(request);
    super(request, slot.address);
    this.#slot = slot;
  }

  read(offset: number, into: Uint8Array): void {
    this.reach(offset, into.length, false);
    const { length } = into;
    if (length === WORD) {
      const word = this.#slot.view.getUint32(offset, true);
      for (let i = 0; i < WORD; i++) into[i] = word >>> (8 * i);
    } else if (length === LONG && offset % LONG === 0) {
      long[0] = this.#slot.view.getBigUint64(offset, true);
      into.set(longBytes);
    } else if (length <= SHORT) {
      // A view of the place would cost more than the bytes.
      const { bytes } = this.#slot;
      for (let i = 0; i < length; i++) into[i] = bytes[offset + i];
    } else {
      into.set(this.#slot.bytes.subarray(offset, offset + length));
    }
  }

  write(offset: number, from: Uint8Array): void {
    this.reach(offset, from.length, true);
    const { length } = from;
    if (length === WORD) {
      const word = from[0] | (from[1] << 8) | (from[2] << 16) | (from[3] << 24);
      this.#slot.view.setUint32(offset, word, true);
    } else if (length === LONG && offset % LONG === 0) {
      longBytes.set(from);
      this.#slot.view.setBigUint64(offset, long[0], true);
    } else {
      this.#slot.bytes.set(from, offset);
    }
  }

  protected unmap(): void {
    this.address = 0;
    this.#slot.unmap(this.sizeBytes);
  }
}

/**
 * Memory of a file that another process can take away. Huge pages come from a pool that may be empty, a file can be
 * truncated, a file system can be full. The kernel makes each access, and throws EFAULT for one that faults. Accesses
 * of 64 KiB cost three to seven times as much as by load and store.
 *
 * It does not promise single accesses, and a write that fails may have arrived in part.
 */
export class GuardedMemory extends MappedFile {
  readonly isGuarded = true;

  /** Maps. Throws the errno of mmap(2). */
  constructor(request: SlotRequest) {
    const { fd, offset, sizeBytes, writable, what } = request;
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    // Do not reserve: another user would lack the huge pages set aside here.
    const address = check(
      sys.mmap(0, sizeBytes, protection, MAP_SHARED | MAP_NORESERVE, fd, offset),
      () => `mmap of ${what}: offset 0x${offset.toString(16)}, size 0x${sizeBytes.toString(16)}`,
    );
    super(request, address);
  }

  read(offset: number, into: Uint8Array): void {
    this.reach(offset, into.length, false);
    if (!readGuardedBytes(this.address + offset, into)) this.#fault(offset, into.length);
  }

  write(offset: number, from: Uint8Array): void {
    this.reach(offset, from.length, true);
    if (!writeGuardedBytes(this.address + offset, from)) this.#fault(offset, from.length);
  }

  protected unmap(): void {
    const { address } = this;
    this.address = 0;
    check(sys.munmap(address, this.sizeBytes), () => `munmap of ${this.what}`);
  }

  #fault(offset: number, length: number): never {
    throw new Errno('EFAULT', `${this.what}: ${length} bytes at ${offset} do not answer; its owner took them away`);
  }
}
