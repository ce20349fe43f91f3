/**
 * Address ranges with a JavaScript view over each, used again and again. Node frees a view of foreign memory when its
 * event loop turns, and a serving thread never turns it. Views therefore stay, and only the mappings behind them
 * change. An unused range is reserved, so that no other mapping can lie there.
 */
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '../abi/mman.ts';
import { check, externalBuffer, sys } from './ffi.ts';
import { PAGE_SIZE } from './mapping.ts';

/** Sizes of slots, from a page on by factors of 16. Few sizes make it likely that a returned slot fits the next use. */
const GROWTH = 16;
/** The most bytes of one slot. An ArrayBuffer of Node 20 holds 4 GiB, more than a CPU copies in a moment. */
export const MAX_SLOT_BYTES = 2 ** 30;
/** A huge page of x86 and arm64: at a multiple of it, memory of that size can be one. */
const ALIGNMENT = 2 ** 21;

const RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

/** Slots without a mapping, by their size. */
const free = new Map<number, ViewSlot[]>();

/** The source of a mapping. The descriptor is needed only during the call. */
export interface SlotRequest {
  fd: number;
  /** The offset in the file; a multiple of the page size. */
  offset: number;
  /** At most MAX_SLOT_BYTES. */
  sizeBytes: number;
  writable: boolean;
  /** Names the mapping in messages: "BAR 0 of lender". */
  what: string;
}

export class ViewSlot {
  readonly address: number;
  readonly #capacity: number;
  #bytes: Uint8Array | null = null;
  #view: DataView | null = null;

  private constructor(address: number, capacity: number) {
    this.address = address;
    this.#capacity = capacity;
  }

  /** Maps part of a file into a slot (MAP_SHARED). Throws the errno of mmap(2); the slot is free again then. */
  static map({ fd, offset, sizeBytes, writable, what }: SlotRequest): ViewSlot {
    const describe = () => `mmap of ${what}: offset 0x${offset.toString(16)}, size 0x${sizeBytes.toString(16)}`;
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    // Map anywhere first: a mapping that is refused must not cost the reservation.
    const address = check(sys.mmap(0, sizeBytes, protection, MAP_SHARED | MAP_NORESERVE, fd, offset), describe);
    try {
      const slot = ViewSlot.#take(sizeBytes);
      // If this fails, the slot is not used again: its content is then unknown.
      check(sys.mremap(address, sizeBytes, sizeBytes, MREMAP_MAYMOVE | MREMAP_FIXED, slot.address), describe);
      return slot;
    } catch (error) {
      sys.munmap(address, sizeBytes);
      throw error;
    }
  }

  /** Makes the view on demand: V8 counts the bytes behind a view as its own, and collects garbage for them. */
  get bytes(): Uint8Array {
    this.#bytes ??= new Uint8Array(externalBuffer(this.address, this.#capacity));
    return this.#bytes;
  }

  get view(): DataView {
    this.#view ??= new DataView(this.bytes.buffer);
    return this.#view;
  }

  /** Unmaps the `sizeBytes` that were mapped. Nobody may touch a view of the slot afterwards: that is a SIGSEGV. */
  unmap(sizeBytes: number): void {
    const result = sys.mmap(this.address, sizeBytes, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);
    if (result < 0) {
      // The memory must be unmapped; the slot is not used again.
      check(sys.munmap(this.address, sizeBytes), () => `munmap of ${sizeBytes} bytes`);
      return;
    }
    free.get(this.#capacity)!.push(this);
  }

  static #take(sizeBytes: number): ViewSlot {
    let capacity = PAGE_SIZE;
    while (capacity < sizeBytes) capacity = Math.min(capacity * GROWTH, MAX_SLOT_BYTES);
    const slots = free.get(capacity);
    if (slots === undefined) free.set(capacity, []);
    return slots?.pop() ?? new ViewSlot(reserve(capacity), capacity);
  }
}

/** Addresses that nothing else can use, aligned for huge pages where that matters. */
function reserve(sizeBytes: number): number {
  const spare = sizeBytes < ALIGNMENT ? 0 : ALIGNMENT;
  const describe = () => `mmap of ${sizeBytes} bytes of addresses`;
  const address = check(sys.mmap(0, sizeBytes + spare, PROT_NONE, RESERVED, -1, 0), describe);
  if (spare === 0) return address;
  const aligned = Math.ceil(address / ALIGNMENT) * ALIGNMENT;
  if (aligned > address) sys.munmap(address, aligned - address);
  const behind = address + spare - aligned;
  if (behind > 0) sys.munmap(aligned + sizeBytes, behind);
  return aligned;
}
