import { Errno } from '../abi/errno.ts';
import type { Memory } from '../pci/memory.ts';
import type { OwnedFd } from './fd.ts';
import { copyPlaced, MappedMemory, type PlacedMemory } from './placed-memory.ts';
import { MAX_SLOT_BYTES } from './view-slot.ts';

/**
 * Memory larger than the limit of one view: a BAR of many gigabytes. It maps a part at its first access, so unused
 * parts cost nothing. An access can therefore fail with ENOMEM.
 */
export class SegmentedMemory implements PlacedMemory {
  readonly sizeBytes: number;
  readonly isGuarded = false;
  readonly #fd: OwnedFd;
  readonly #segments: (MappedMemory | undefined)[];

  /** Takes ownership of `fd`, a memfd that cannot shrink. */
  constructor(fd: OwnedFd, sizeBytes: number) {
    this.#fd = fd;
    this.sizeBytes = sizeBytes;
    this.#segments = new Array(Math.ceil(sizeBytes / MAX_SLOT_BYTES)).fill(undefined);
  }

  read(offset: number, into: Uint8Array): void {
    this.#each(offset, into, (segment, at, part) => segment.read(at, part));
  }

  write(offset: number, from: Uint8Array): void {
    this.#each(offset, from, (segment, at, part) => segment.write(at, part));
  }

  place(offset: number, length: number, isWrite: boolean): number {
    this.#check(offset, length);
    const index = Math.floor(offset / MAX_SLOT_BYTES);
    const at = offset - index * MAX_SLOT_BYTES;
    return at + length > MAX_SLOT_BYTES ? 0 : this.#segment(index).place(at, length, isWrite);
  }

  copyTo(offset: number, target: Memory, targetOffset: number, length: number): boolean {
    return copyPlaced(this, offset, target, targetOffset, length);
  }

  close(): void {
    for (const segment of this.#segments) segment?.close();
    this.#fd.close();
  }

  #check(offset: number, length: number): void {
    if (!Number.isSafeInteger(offset) || offset < 0 || length > this.sizeBytes - offset) {
      throw new Errno('EINVAL', `${this.#fd.what}: ${length} bytes at ${offset} of ${this.sizeBytes}`);
    }
  }

  #each(offset: number, bytes: Uint8Array, access: (segment: Memory, at: number, part: Uint8Array) => void): void {
    this.#check(offset, bytes.length);
    for (let done = 0; done < bytes.length; ) {
      const index = Math.floor((offset + done) / MAX_SLOT_BYTES);
      const at = offset + done - index * MAX_SLOT_BYTES;
      const part = bytes.subarray(done, done + MAX_SLOT_BYTES - at);
      access(this.#segment(index), at, part);
      done += part.length;
    }
  }

  #segment(index: number): MappedMemory {
    const mapped = this.#segments[index];
    if (mapped !== undefined) return mapped;
    const start = index * MAX_SLOT_BYTES;
    const sizeBytes = Math.min(MAX_SLOT_BYTES, this.sizeBytes - start);
    const { fd, what } = this.#fd;
    const segment = new MappedMemory({ fd, offset: start, sizeBytes, writable: true, what });
    this.#segments[index] = segment;
    return segment;
  }
}

/** Maps a memfd that cannot shrink, in one piece where that is possible. Takes ownership of `fd`, also when it throws. */
export function mapMemory(fd: OwnedFd, sizeBytes: number): PlacedMemory {
  if (sizeBytes > MAX_SLOT_BYTES) return new SegmentedMemory(fd, sizeBytes);
  try {
    return new MappedMemory({ fd: fd.fd, offset: 0, sizeBytes, writable: true, what: fd.what });
  } finally {
    fd.close();
  }
}
