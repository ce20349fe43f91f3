import { Errno } from '../abi/errno.ts';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE } from '../abi/mman.ts';
import { check, Pinned, sys } from './ffi.ts';
import { PAGE_SIZE } from './mapping.ts';

/**
 * Memory for an ioctl's argument, followed by an inaccessible page. A kernel that reads or writes beyond the last byte
 * gets EFAULT, as with an argument that is too short. Length 0 gives an address that is bad at once.
 */
export class UserArg {
  readonly length: number;
  readonly #address: number;
  #base: number;
  readonly #mappedBytes: number;

  /** An argument that holds `bytes`. */
  constructor(bytes: Uint8Array) {
    const { length } = bytes;
    const dataBytes = Math.max(1, Math.ceil(length / PAGE_SIZE)) * PAGE_SIZE;
    this.length = length;
    this.#mappedBytes = dataBytes + PAGE_SIZE;
    this.#base = check(
      sys.mmap(0, this.#mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      () => `mmap of an argument of ${length} bytes`,
    );
    const result = sys.mprotect(this.#base + dataBytes, PAGE_SIZE, PROT_NONE);
    if (result < 0) sys.munmap(this.#base, this.#mappedBytes);
    check(result, () => 'mprotect of the guard page');
    this.#address = this.#base + dataBytes - length;
    const source = new Pinned(length);
    source.bytes.set(bytes);
    sys.memcpy(this.#address, source.address, length);
  }

  /** The address for the call; valid until `close`. EFAULT after it. */
  get address(): number {
    if (this.#base === 0) throw new Errno('EFAULT', 'an argument is used after it was closed');
    return this.#address;
  }

  /** Returns a copy of the argument's present bytes. */
  read(): Buffer {
    const target = new Pinned(this.length);
    sys.memcpy(target.address, this.address, this.length);
    return target.bytes;
  }

  /** Unmaps; doing so again does nothing. */
  close(): void {
    if (this.#base === 0) return;
    const base = this.#base;
    this.#base = 0;
    check(sys.munmap(base, this.#mappedBytes), () => 'munmap of an argument');
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
