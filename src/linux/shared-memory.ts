/** Memory of this process that a device or another process can map: a sealed memfd, mapped here. */
import type { OwnedFd } from './fd.ts';
import { Mapping } from './mapping.ts';
import { createMemfd } from './memfd.ts';

/** Memory that this process maps and gives to others: a sealed memfd with its mapping. */
export class SharedMemory {
  /** Bytes of the memory; never changes. */
  readonly sizeBytes: number;
  /** For DMA_MAP, and other messages that carry descriptors. */
  readonly memfd: OwnedFd;
  /** The mapping of this process. */
  readonly mapping: Mapping;

  /** Makes zeroed memory. `name` is shown in /proc/PID/maps. */
  constructor(sizeBytes: number, name = 'shared memory') {
    this.sizeBytes = sizeBytes;
    this.memfd = createMemfd(name, sizeBytes);
    try {
      this.mapping = Mapping.map({ fd: this.memfd.fd, offset: 0, sizeBytes, writable: true, what: name });
    } catch (error) {
      this.memfd.close();
      throw error;
    }
  }

  /** All bytes. Empty after `close`. */
  get bytes(): Uint8Array {
    return this.mapping.bytes;
  }

  /** Unmaps the memory and closes the memfd. Other processes keep what they have mapped. */
  close(): void {
    this.mapping.close();
    this.memfd.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
