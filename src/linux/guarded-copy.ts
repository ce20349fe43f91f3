import { check, Pinned, retry, sys } from './ffi.ts';
import { socketPair } from './socket.ts';

/**
 * Copies from and to memory that may fault: the kernel does it, on its way into a socket and out of it, so that a page
 * whose BAR does not answer gives EFAULT here instead of a SIGBUS that ends the process. For looking at mapped BARs; at
 * most 64 KiB at a time.
 */
export class GuardedCopy {
  readonly #pair = socketPair('guarded copy');

  /** EFAULT where the memory does not answer. */
  read(address: number, length: number): Buffer {
    const [into, from] = this.#pair;
    const target = new Pinned(length);
    check(
      retry(() => sys.write(into.fd, address, length)),
      () => `read of ${length} mapped bytes`,
    );
    check(
      retry(() => sys.read(from.fd, target.address, length)),
      () => 'guarded copy',
    );
    return target.bytes;
  }

  /** EFAULT where the memory does not answer. */
  write(address: number, bytes: Uint8Array): void {
    const [into, from] = this.#pair;
    const source = new Pinned(bytes.length);
    source.bytes.set(bytes);
    check(
      retry(() => sys.write(into.fd, source.address, bytes.length)),
      () => 'guarded copy',
    );
    const result = retry(() => sys.read(from.fd, address, bytes.length));
    // What did not arrive must not be what the next read finds.
    if (result < 0) retry(() => sys.read(from.fd, source.address, bytes.length));
    check(result, () => `write of ${bytes.length} mapped bytes`);
  }

  close(): void {
    for (const end of this.#pair) end.close();
  }
}
