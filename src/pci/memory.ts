/** Bytes behind a BAR, or of system memory. */

import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';

/** A part of a memory. */
export interface MemoryExtent {
  /** Where it starts, in bytes. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly sizeBytes: number;
}

/**
 * Plain bytes. The caller has checked offsets and lengths, but every implementation refuses accesses outside its own
 * bytes.
 */
export interface Memory {
  /** Bytes of the memory; never changes. */
  readonly sizeBytes: number;
  /** Fills `into` with the bytes from `offset`. EFAULT outside the memory. */
  read(offset: number, into: Uint8Array): void;
  /** Stores `from` at `offset`. EFAULT outside the memory. */
  write(offset: number, from: Uint8Array): void;
  /**
   * Copies to another memory without an intermediate buffer. Returns false, with nothing done, if the two cannot.
   * Throws as `read` of this memory and `write` of the other.
   */
  copyTo?(offset: number, target: Memory, targetOffset: number, length: number): boolean;
  /** A descriptor that shares the bytes with other processes, if there is one, and their offset in it. */
  readonly fd?: number;
  /** The offset of the first byte in the file of `fd`. Default: 0. */
  readonly fdOffset?: number;
  /** Moves the bytes to a fresh file behind a new `fd`: a process that keeps the old one no longer shares them. */
  renew?(): void;
  /** The parts that may hold other bytes than zeros, in order. Without this method, all parts may. */
  extents?(): Iterable<MemoryExtent>;
  /** Gives the memory back. The caller does not use it afterwards. */
  close(): void;
}

/** The buffer size of a copy between two memories that cannot copy directly. */
const BUFFER_BYTES = 64 * 1024;

/** Copies between memories, without a buffer if they can. Throws as `read` of one and `write` of the other. */
function copyMemory(from: Memory, offset: number, to: Memory, toOffset: number, length: number): void {
  if (from.copyTo?.(offset, to, toOffset, length) === true) return;
  const buffer = new Uint8Array(Math.min(BUFFER_BYTES, length));
  for (let at = 0; at < length; at += BUFFER_BYTES) {
    const part = buffer.subarray(0, Math.min(BUFFER_BYTES, length - at));
    from.read(offset + at, part);
    to.write(toOffset + at, part);
  }
}

/** Reads or writes. Returns false if a peer's file no longer has the bytes, or is not open for writing. */
export function tryAccess(memory: Memory, offset: number, bytes: Uint8Array, isWrite: boolean): boolean {
  try {
    if (isWrite) memory.write(offset, bytes);
    else memory.read(offset, bytes);
    return true;
  } catch (error) {
    if (error instanceof Errno) return false;
    throw error;
  }
}

/** As copyMemory. Returns false if one of the two does not answer; a part may be copied by then. */
export function tryCopy(from: Memory, offset: number, to: Memory, toOffset: number, length: number): boolean {
  try {
    copyMemory(from, offset, to, toOffset, length);
    return true;
  } catch (error) {
    if (error instanceof Errno) return false;
    throw error;
  }
}

/** Makes the memory of a BAR: memfds in production, `arrayMemory` in tests and the explorer. */
export type MemoryProvider = (label: string, sizeBytes: number) => Memory;

function check(memory: Memory, offset: number, length: number): void {
  if (offset < 0 || offset + length > memory.sizeBytes) {
    throw new Errno('EFAULT', `bytes ${offset} to ${offset + length} of a memory of ${memory.sizeBytes}`);
  }
}

/** Memory of this process alone, in a Uint8Array. */
export class ArrayMemory implements Memory {
  /** Bytes of the memory. */
  readonly sizeBytes: number;
  private readonly bytes: Uint8Array;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.bytes = new Uint8Array(sizeBytes);
  }

  /** As `Memory.read`. */
  read(offset: number, into: Uint8Array): void {
    check(this, offset, into.length);
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  /** As `Memory.write`. */
  write(offset: number, from: Uint8Array): void {
    check(this, offset, from.length);
    this.bytes.set(from, offset);
  }

  /** As `Memory.close`: does nothing. */
  close(): void {}
}

/** Memory by page, made at the first write: a BAR of a terabyte costs only its used pages. */
class SparseMemory implements Memory {
  readonly sizeBytes: number;
  private readonly pages = new Map<number, Uint8Array>();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, into: Uint8Array): void {
    check(this, offset, into.length);
    for (const { page, start, part } of this.parts(offset, into)) {
      const bytes = this.pages.get(page);
      if (bytes === undefined) part.fill(0);
      else part.set(bytes.subarray(start, start + part.length));
    }
  }

  write(offset: number, from: Uint8Array): void {
    check(this, offset, from.length);
    for (const { page, start, part } of this.parts(offset, from)) {
      let bytes = this.pages.get(page);
      if (bytes === undefined) {
        bytes = new Uint8Array(PAGE_SIZE);
        this.pages.set(page, bytes);
      }
      bytes.set(part, start);
    }
  }

  *extents(): Generator<{ offset: number; sizeBytes: number }> {
    for (const page of [...this.pages.keys()].sort((a, b) => a - b)) {
      yield { offset: page * PAGE_SIZE, sizeBytes: PAGE_SIZE };
    }
  }

  close(): void {
    this.pages.clear();
  }

  private *parts(offset: number, bytes: Uint8Array): Generator<{ page: number; start: number; part: Uint8Array }> {
    for (let at = 0; at < bytes.length; ) {
      const page = Math.floor((offset + at) / PAGE_SIZE);
      const start = offset + at - page * PAGE_SIZE;
      const length = Math.min(PAGE_SIZE - start, bytes.length - at);
      yield { page, start, part: bytes.subarray(at, at + length) };
      at += length;
    }
  }
}

/** Small memories as one array, large ones by page. */
export const arrayMemory: MemoryProvider = (_label, sizeBytes) =>
  sizeBytes <= 16 * PAGE_SIZE ? new ArrayMemory(sizeBytes) : new SparseMemory(sizeBytes);
