import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE } from '../abi/mman.ts';
import { check, externalBuffer, sys } from './ffi.ts';
import { detach, PAGE_SIZE } from './mapping.ts';

/**
 * Memory for an ioctl's argument whose last byte is followed by a page that nobody can touch: a kernel that reads or
 * writes further gets EFAULT, as with a user who passed too little. Length 0 gives an address that is bad at once.
 */
export class UserArg {
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly address: number;
  readonly #buffer: ArrayBuffer;
  readonly #base: number;
  readonly #mappedBytes: number;

  constructor(length: number) {
    if (!Number.isSafeInteger(length) || length < 0) throw new Errno('EINVAL', `an argument of ${length} bytes`);
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
    this.#buffer = externalBuffer(this.#base, dataBytes);
    this.bytes = new Uint8Array(this.#buffer, dataBytes - length, length);
    this.view = viewOf(this.bytes);
    this.address = this.#base + dataBytes - length;
  }

  /** An argument that holds `bytes`. */
  static of(bytes: Uint8Array): UserArg {
    const arg = new UserArg(bytes.length);
    arg.bytes.set(bytes);
    return arg;
  }

  close(): void {
    if (this.#buffer.byteLength === 0) return;
    detach(this.#buffer);
    check(sys.munmap(this.#base, this.#mappedBytes), () => 'munmap of an argument');
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
