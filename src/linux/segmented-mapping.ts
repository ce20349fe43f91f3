import { Errno } from '../abi/errno.ts';
import type { OwnedFd } from './fd.ts';
import { Mapping, type MapRequest } from './mapping.ts';

/** An ArrayBuffer of Node 20 has at most 4 GiB; memory above this size is mapped in parts of it. */
export const SEGMENT_BYTES = 2 ** 30;

/**
 * Memory larger than one ArrayBuffer can be: the RAM of a large virtual machine, a BAR of many gigabytes. A part is
 * mapped when it is first touched, so that what nobody uses costs nothing; an access can therefore fail with ENOMEM.
 */
export class SegmentedMapping {
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly #fd: OwnedFd;
  readonly #offset: number;
  readonly #segments: (Mapping | undefined)[];

  /** Takes ownership of `fd`, whose file cannot shrink (memfd.ts). */
  constructor(fd: OwnedFd, offset: number, sizeBytes: number, writable: boolean) {
    this.#fd = fd;
    this.#offset = offset;
    this.sizeBytes = sizeBytes;
    this.writable = writable;
    this.#segments = new Array(Math.ceil(sizeBytes / SEGMENT_BYTES)).fill(undefined);
  }

  /** As Mapping.read. */
  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target, (segment, at, part) => segment.read(at, part));
  }

  /** As Mapping.write. */
  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source, (segment, at, part) => segment.write(at, part));
  }

  close(): void {
    for (const segment of this.#segments) segment?.close();
    this.#fd.close();
  }

  #each(offset: number, bytes: Uint8Array, access: (segment: Mapping, at: number, part: Uint8Array) => void): void {
    if (!Number.isSafeInteger(offset) || offset < 0 || bytes.length > this.sizeBytes - offset) {
      throw new Errno('EINVAL', `${this.#fd.what}: ${bytes.length} bytes at ${offset} of ${this.sizeBytes}`);
    }
    for (let done = 0; done < bytes.length; ) {
      const index = Math.floor((offset + done) / SEGMENT_BYTES);
      const at = offset + done - index * SEGMENT_BYTES;
      const part = bytes.subarray(done, done + SEGMENT_BYTES - at);
      access(this.#segment(index), at, part);
      done += part.length;
    }
  }

  #segment(index: number): Mapping {
    const mapped = this.#segments[index];
    if (mapped !== undefined) return mapped;
    const start = index * SEGMENT_BYTES;
    const request: MapRequest = {
      fd: this.#fd.fd,
      offset: this.#offset + start,
      sizeBytes: Math.min(SEGMENT_BYTES, this.sizeBytes - start),
      writable: this.writable,
      what: this.#fd.what,
    };
    const segment = Mapping.map(request);
    this.#segments[index] = segment;
    return segment;
  }
}

/**
 * Maps memory of a file that cannot shrink, in one piece where that is possible. Takes ownership of `fd`, also when it
 * throws what Mapping.map does.
 */
export function mapMemory(
  fd: OwnedFd,
  offset: number,
  sizeBytes: number,
  writable: boolean,
): Mapping | SegmentedMapping {
  if (sizeBytes > SEGMENT_BYTES) return new SegmentedMapping(fd, offset, sizeBytes, writable);
  try {
    return Mapping.map({ fd: fd.fd, offset, sizeBytes, writable, what: fd.what });
  } finally {
    fd.close();
  }
}
