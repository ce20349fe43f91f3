/** A slice of a dma-buf of another process, mapped here until its exporter takes it back. */
import { Errno } from '../../abi/errno.ts';
import { cutRanges } from '../../dma-buf/scatterlist.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { type MappingBudget, type MemoryPart, SharedFiles } from '../../linux/shared-files.ts';
import type { Task } from '../../task/op.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { DmaBufImporter } from './importer.ts';

export class BorrowedBuffer {
  private readonly importer: DmaBufImporter;
  private readonly onLost: () => void;
  private readonly files: SharedFiles;
  private parts: MemoryPart[] = [];
  /** Set for good: by a revoke, by the exporter's end, or by `close`. */
  private lost = false;

  /**
   * `onLost` is called once, before the memory is unmapped: the exporter takes the buffer back or is gone. When
   * `onLost` returns, nothing may reach the memory. ENOTSOCK for a descriptor that is not a lent dma-buf.
   */
  constructor(loop: EventLoop, fd: OwnedFd, budget: MappingBudget, onLost: () => void) {
    this.onLost = onLost;
    this.files = new SharedFiles(budget);
    this.importer = new DmaBufImporter(loop, fd.fd, { onInvalidate: () => this.lose(), onClose: () => this.lose() });
  }

  get isLost(): boolean {
    return this.lost;
  }

  /**
   * Attaches and maps `sizeBytes` from `start`. Returns the parts in order; they stay good until `onLost` or `close`.
   * EINVAL where the slice leaves the buffer; ENODEV where the buffer is revoked, also while this waits.
   */
  *map(start: number, sizeBytes: number, writable: boolean): Task<readonly MemoryPart[]> {
    const { importer } = this;
    yield* importer.opened();
    const info = yield* importer.query();
    if (start + sizeBytes > info.sizeBytes) {
      throw new Errno('EINVAL', `${sizeBytes} bytes at ${start} of a dma-buf of ${info.sizeBytes}`);
    }
    const { fds, ranges } = yield* importer.map(yield* importer.attach(), writable);
    try {
      if (this.lost) throw new Errno('ENODEV', 'the buffer was revoked while it was mapped');
      const wanted = cut(ranges, start, sizeBytes);
      const found = wanted.reduce((sum, range) => sum + range.sizeBytes, 0);
      if (found !== sizeBytes) throw new Errno('EPROTO', `the exporter's ranges lack ${sizeBytes - found} bytes`);
      for (const { fd, offset, sizeBytes: length } of wanted) {
        this.parts.push(...this.files.open(fd, offset, length, writable));
      }
      return this.parts;
    } finally {
      for (const fd of fds) fd.close();
    }
  }

  /** Gives the buffer back. */
  close(): void {
    this.lost = true;
    this.unmap();
    this.importer.close();
  }

  private lose(): void {
    if (this.lost) return;
    this.lost = true;
    this.onLost();
    this.unmap();
  }

  private unmap(): void {
    this.files.release(this.parts.splice(0));
  }
}

interface Range {
  fd: OwnedFd;
  offset: number;
  sizeBytes: number;
}

function cut(ranges: readonly Range[], start: number, length: number): Range[] {
  return cutRanges(ranges, start, length, ({ fd, offset }, skip, sizeBytes) => ({
    fd,
    offset: offset + skip,
    sizeBytes,
  }));
}
