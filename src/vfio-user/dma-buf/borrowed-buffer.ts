/** A slice of a dma-buf of another process, mapped here until its exporter takes it back. */
import { Errno } from '../../abi/errno.ts';
import { cutRanges } from '../../dma-buf/scatterlist.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { openSharedMemory, type SharedMemory } from '../../linux/shared-memory.ts';
import type { Task } from '../../task/op.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { DmaBufImporter } from './importer.ts';

/** Where a part of the slice lies in `memory`. */
export interface BorrowedPart {
  readonly memory: SharedMemory;
  readonly offset: number;
  readonly sizeBytes: number;
}

export class BorrowedBuffer {
  private readonly importer: DmaBufImporter;
  private readonly onLost: () => void;
  private memories: SharedMemory[] = [];
  /** Set for good: by a revoke, by the exporter's end, or by `close`. */
  private lost = false;

  /**
   * `onLost` is called once, when the exporter takes the buffer back or is gone, before the memory is unmapped: nothing
   * may reach it when it returns. ENOTSOCK for a descriptor that is no lent dma-buf.
   */
  constructor(loop: EventLoop, fd: OwnedFd, onLost: () => void) {
    this.onLost = onLost;
    this.importer = new DmaBufImporter(loop, fd.fd, { onInvalidate: () => this.lose(), onClose: () => this.lose() });
  }

  get isLost(): boolean {
    return this.lost;
  }

  /**
   * Attaches and maps `sizeBytes` from `start`; returns the parts in order, good until `onLost` or `close`. EINVAL
   * where the slice leaves the buffer; ENODEV where it is revoked, or is meanwhile.
   */
  *map(start: number, sizeBytes: number, writable: boolean): Task<BorrowedPart[]> {
    const { importer } = this;
    yield* importer.opened();
    const info = yield* importer.query();
    if (start + sizeBytes > info.sizeBytes) {
      throw new Errno('EINVAL', `${sizeBytes} bytes at ${start} of a dma-buf of ${info.sizeBytes}`);
    }
    const { fds, ranges } = yield* importer.map(yield* importer.attach(), writable);
    try {
      if (this.lost) throw new Errno('ENODEV', 'the buffer was revoked while it was mapped');
      const memories = new Map<OwnedFd, Extent>();
      const wanted = cut(ranges, start, sizeBytes);
      const found = wanted.reduce((sum, range) => sum + range.sizeBytes, 0);
      if (found !== sizeBytes) throw new Errno('EPROTO', `the exporter's ranges lack ${sizeBytes - found} bytes`);
      for (const { fd, offset, sizeBytes: length } of wanted) {
        const extent = memories.get(fd);
        if (extent === undefined) memories.set(fd, { from: offset, to: offset + length });
        else {
          extent.from = Math.min(extent.from, offset);
          extent.to = Math.max(extent.to, offset + length);
        }
      }
      return this.open(wanted, memories, writable);
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

  /** One mapping for all that lies in a file: ranges of a buffer are often neighbours. */
  private open(ranges: readonly Range[], extents: ReadonlyMap<OwnedFd, Extent>, writable: boolean): BorrowedPart[] {
    const opened = new Map<OwnedFd, SharedMemory>();
    for (const [fd, { from, to }] of extents) {
      const memory = openSharedMemory(fd.duplicate('memory of a dma-buf'), from, to - from, writable);
      this.memories.push(memory);
      opened.set(fd, memory);
    }
    return ranges.map(({ fd, offset, sizeBytes }) => {
      return { memory: opened.get(fd)!, offset: offset - extents.get(fd)!.from, sizeBytes };
    });
  }

  private lose(): void {
    if (this.lost) return;
    this.lost = true;
    this.onLost();
    this.unmap();
  }

  private unmap(): void {
    for (const memory of this.memories.splice(0)) memory.close();
  }
}

interface Extent {
  from: number;
  to: number;
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
