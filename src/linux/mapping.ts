import { Errno } from '../abi/errno.ts';
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from '../abi/mman.ts';
import { check, externalBuffer, sys, Window } from './ffi.ts';
import { readGuardedBytes, writeGuardedBytes } from './guarded-copy.ts';

/** The page size of this machine: 4096 on x86-64, 4096 to 65536 on arm64. */
export const PAGE_SIZE = sys.getpagesize();

/** The most bytes of one ArrayBuffer in Node 20. */
const MAX_BYTES = 2 ** 32;

/** The bytes of a register access: one load or store, without a view of its own. */
const WORD = 4;

/** The source of a mapping. The descriptor is needed only during `map`. */
export interface MapRequest {
  /** The open file to map. */
  fd: number;
  /** The offset in the file; a multiple of the page size. */
  offset: number;
  /** Bytes to map, from 1 to 4 GiB. */
  sizeBytes: number;
  /** Without it the memory is read-only, and a write through the mapping is refused before it could fault. */
  writable: boolean;
  /** Names the mapping in messages: "BAR 0 of lender". */
  what: string;
  /**
   * For the file of a peer, which may be truncated: the kernel makes each access, and one to a lost page is EFAULT.
   * Such a mapping has no views.
   */
  guarded?: boolean;
  /** MAP_PRIVATE: writes go to copies of the pages, which only this process sees. */
  isPrivate?: boolean;
}

/** The views through which JavaScript reaches mapped memory. */
class Views {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly window: Window;
  readonly view: DataView;

  constructor(address: number, sizeBytes: number) {
    this.buffer = externalBuffer(address, sizeBytes);
    this.bytes = new Uint8Array(this.buffer);
    this.window = new Window(this.bytes);
    this.view = new DataView(this.buffer);
  }
}

/**
 * Memory of a file or device mapped into this process (mmap(2), MAP_SHARED). It is the only owner: `unmap` detaches the
 * ArrayBuffer behind every view, so that no view reaches the memory, or a later mapping at its place. A stale
 * Uint8Array has length 0, a stale DataView throws TypeError; methods here throw EFAULT.
 *
 * It does not promise:
 *  - that the memory stays backed. If the file is truncated, touching a lost page kills the process with SIGBUS. Map
 *    a peer's files `guarded`, or through SharedFiles.
 *  - that `unmap` frees the bookkeeping of its views. Node frees it when its event loop turns. A serving thread never
 *    turns that loop, and uses MappedMemory.
 *  - that a device's BAR answers. With memory decoding off, touching a mapped vfio region also kills with SIGBUS. pread
 *    on the device fd gives EIO instead.
 *  - that bytes hold still: other processes and devices write them at any time. Aligned accesses of up to 8 bytes by
 *    DataView are single loads and stores; longer ones may be torn. Read once, check the copy, use the copy.
 *  - ordering against other threads, except through Atomics on an Int32Array or BigInt64Array over `buffer`.
 *  - that a view refuses to write a read-only mapping: such a write kills with SIGSEGV. `write` refuses it.
 */
export class Mapping {
  /** Bytes of the mapping; stays after `unmap`. */
  readonly sizeBytes: number;
  /** Whether `write` may be used. */
  readonly writable: boolean;
  /** Names the mapping in messages. */
  readonly what: string;
  /** Whether only `read` and `write` reach the memory. */
  readonly isGuarded: boolean;
  #address: number;
  #views: Views | null = null;

  private constructor(address: number, request: MapRequest) {
    this.sizeBytes = request.sizeBytes;
    this.writable = request.writable;
    this.what = request.what;
    this.isGuarded = request.guarded === true;
    this.#address = address;
  }

  /** Maps. EINVAL for an offset or size that mmap refuses; EACCES, ENODEV and ENOMEM as mmap(2) says. */
  static map(request: MapRequest): Mapping {
    const { fd, offset, sizeBytes, isPrivate, what } = request;
    if (sizeBytes <= 0 || sizeBytes > MAX_BYTES || offset % PAGE_SIZE !== 0) {
      throw new Errno('EINVAL', `mmap of ${what}: offset ${offset}, size ${sizeBytes}`);
    }
    const protection = request.writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const address = check(
      sys.mmap(0, sizeBytes, protection, isPrivate === true ? MAP_PRIVATE : MAP_SHARED, fd, offset),
      () => `mmap of ${what}: fd ${fd}, offset 0x${offset.toString(16)}, size 0x${sizeBytes.toString(16)}`,
    );
    return new Mapping(address, request);
  }

  /** False after `unmap`. */
  get isMapped(): boolean {
    return this.#address !== 0;
  }

  /** The memory's address, for system calls; valid until unmap. */
  get address(): number {
    this.#checkMapped();
    return this.#address;
  }

  /** All bytes, for code that indexes them itself. They and their subarrays have length 0 after unmap. */
  get bytes(): Uint8Array {
    return this.#open().bytes;
  }

  /** A DataView of all bytes; after `unmap` it throws TypeError. EACCES where the mapping is guarded. */
  get view(): DataView {
    return this.#open().view;
  }

  /** The ArrayBuffer behind all views; `unmap` detaches it. EACCES where the mapping is guarded. */
  get buffer(): ArrayBuffer {
    return this.#open().buffer;
  }

  /** Copies `target.length` bytes from `offset`. EINVAL outside the mapping, EFAULT where a guarded page is lost. */
  read(offset: number, target: Uint8Array): void {
    this.#reach(offset, target.length);
    if (this.isGuarded) {
      if (!readGuardedBytes(this.#address + offset, target)) throw this.#fault(offset, target.length);
      return;
    }
    const views = this.#open();
    if (target.length === WORD) {
      const word = views.view.getUint32(offset, true);
      for (let i = 0; i < WORD; i++) target[i] = word >>> (8 * i);
      return;
    }
    target.set(views.window.at(offset, target.length));
  }

  /** Copies `source` to `offset`. As `read`, and EACCES when it is read-only. */
  write(offset: number, source: Uint8Array): void {
    this.#reach(offset, source.length);
    if (!this.writable) throw new Errno('EACCES', `${this.what} is mapped read-only`);
    if (this.isGuarded) {
      if (!writeGuardedBytes(this.#address + offset, source)) throw this.#fault(offset, source.length);
      return;
    }
    const views = this.#open();
    if (source.length === WORD) {
      const word = source[0] | (source[1] << 8) | (source[2] << 16) | (source[3] << 24);
      views.view.setUint32(offset, word, true);
      return;
    }
    views.bytes.set(source, offset);
  }

  /** Unmaps the memory; doing so again does nothing. */
  unmap(): void {
    if (this.#address === 0) return;
    const address = this.#address;
    if (this.#views !== null) detach(this.#views.buffer);
    this.#address = 0;
    check(sys.munmap(address, this.sizeBytes), () => `munmap of ${this.what}`);
  }

  /** As `unmap`. */
  close(): void {
    this.unmap();
  }

  /** As `unmap`. */
  [Symbol.dispose](): void {
    this.unmap();
  }

  #checkMapped(): void {
    if (this.#address === 0) throw new Errno('EFAULT', `${this.what}: used after it was unmapped`);
  }

  /** Makes the views on demand: V8 counts the bytes behind a view as its own, and collects garbage for them. */
  #open(): Views {
    this.#checkMapped();
    if (this.isGuarded)
      throw new Errno('EACCES', `${this.what} has no views, as its file may shrink: read and write it`);
    this.#views ??= new Views(this.#address, this.sizeBytes);
    return this.#views;
  }

  #reach(offset: number, length: number): void {
    this.#checkMapped();
    if (!Number.isSafeInteger(offset) || offset < 0 || length > this.sizeBytes - offset) {
      throw new Errno('EINVAL', `${this.what}: ${length} bytes at ${offset} of ${this.sizeBytes}`);
    }
  }

  #fault(offset: number, length: number): Errno {
    return new Errno('EFAULT', `${this.what}: ${length} bytes at ${offset} do not answer; its owner took them away`);
  }
}

/** Neither the ES2023 library's types nor Node 20 have it. */
type Transferable = ArrayBuffer & { transfer?: () => ArrayBuffer };

/**
 * Detaches an ArrayBuffer: its views become empty at once. Node 22 and later have ArrayBuffer.prototype.transfer. In
 * Node 20 a byte stream takes the buffer over, as the streams standard requires. No other way there detaches a buffer
 * of foreign memory: structuredClone copies it.
 */
function detach(buffer: Transferable): void {
  if (buffer.byteLength === 0) return;
  if (buffer.transfer !== undefined) {
    buffer.transfer();
  } else {
    new ReadableStream({ type: 'bytes', start: (controller) => controller.enqueue(new Uint8Array(buffer)) });
  }
  if (buffer.byteLength !== 0) throw new Error('this Node cannot detach an ArrayBuffer: refusing to unmap under it');
}
