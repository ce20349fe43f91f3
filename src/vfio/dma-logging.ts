/** DMA logging (features 6, 7 and 8): the pages of its user's memory that a device wrote, by IOVA. */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { Task } from '../task/op.ts';
import { condResched } from '../task/runner.ts';
import { beyondLimit, limitHit } from './limit-hits.ts';

/** As in Linux: as many as fit into a page. */
export const MAX_LOG_RANGES = 256;
/** Pages of one block of the log: a block is made when one of them is written. */
const BLOCK_PAGES = 32768;
/** The most blocks that a log keeps, 16 MiB. If a device writes in more places, all of memory counts as written. */
export const MAX_LOG_BLOCKS = 4096;

export interface LoggedRange {
  iova: bigint;
  length: bigint;
}

/** A log from START to STOP. It logs a write after the write has arrived. A report clears the pages that it reports. */
export class DmaLog {
  readonly pageBytes: number;
  /** In order; empty where every write is logged. */
  private readonly ranges: readonly LoggedRange[];
  /** By the number of the block, a bit for each dirty page. */
  private readonly blocks = new Map<number, Uint8Array>();
  private isFull = false;

  /**
   * `pageSize` is a hint: pages are never smaller than the system's. EINVAL where it is not a power of two, or a range
   * is empty, not whole pages, or overlaps another; EOVERFLOW for one that wraps; E2BIG for too many.
   */
  constructor(pageSize: bigint, ranges: readonly LoggedRange[]) {
    if (pageSize === 0n || (pageSize & (pageSize - 1n)) !== 0n || pageSize > 1n << 40n) {
      throw new Errno('EINVAL', `DMA_LOGGING: pages of ${pageSize} bytes`);
    }
    if (ranges.length > MAX_LOG_RANGES) {
      throw beyondLimit('MAX_LOG_RANGES', 'E2BIG', `DMA_LOGGING: ${ranges.length} ranges`);
    }
    this.pageBytes = Math.max(Number(pageSize), PAGE_SIZE);
    this.ranges = [...ranges].sort((a, b) => (a.iova < b.iova ? -1 : 1));
    let end = 0n;
    for (const { iova, length } of this.ranges) {
      if (iova + length > 1n << 64n) throw new Errno('EOVERFLOW', `DMA_LOGGING: ${length} bytes at ${iova}`);
      if (length === 0n || iova % pageSize !== 0n || length % pageSize !== 0n || iova < end) {
        throw new Errno('EINVAL', `DMA_LOGGING: ${length} bytes at ${iova}: whole pages, and no overlap`);
      }
      end = iova + length;
    }
  }

  /** Called for each write of the device after it has arrived. */
  written(address: number, sizeBytes: number): void {
    const last = Math.floor((address + sizeBytes - 1) / this.pageBytes);
    for (let page = Math.floor(address / this.pageBytes); page <= last; page++) {
      if (!this.isLogged(page)) continue;
      const index = Math.floor(page / BLOCK_PAGES);
      let block = this.blocks.get(index);
      if (block === undefined) {
        if (!this.isFull && this.blocks.size >= MAX_LOG_BLOCKS) {
          this.isFull = true;
          limitHit('MAX_LOG_BLOCKS');
        }
        if (this.isFull) return;
        block = new Uint8Array(BLOCK_PAGES / 8);
        this.blocks.set(index, block);
      }
      const bit = page % BLOCK_PAGES;
      block[bit >> 3] |= 1 << (bit & 7);
    }
  }

  /** The length of the bitmap of a report. Errors as `report`. */
  static bitmapBytes(iova: bigint, length: bigint, pageSize: bigint): number {
    const isPower = pageSize >= BigInt(PAGE_SIZE) && (pageSize & (pageSize - 1n)) === 0n;
    if (!isPower || length === 0n) throw new Errno('EINVAL', `DMA_LOGGING_REPORT: ${length} bytes, pages ${pageSize}`);
    if (iova + length > 1n << 64n) throw new Errno('EOVERFLOW', `DMA_LOGGING_REPORT: ${length} bytes at ${iova}`);
    const pages = (length + pageSize - 1n) / pageSize;
    return Number((pages + 63n) / 64n) * 8;
  }

  /**
   * One bit for each `pageSize` bytes from `iova`, 64 of them in a u64. A bit is set where any of its bytes may have
   * been written since the last report. Clears the reported pages, unless the log is full: then everything stays dirty.
   * A report may cover every block, so it gives way to other tasks. EINVAL unless the page size is a power of two of at
   * least 4096.
   */
  *report(iova: bigint, length: bigint, pageSize: bigint): Task<Uint8Array> {
    const report = new Report(iova, length, pageSize);
    if (this.isFull) {
      for (const range of this.ranges.length === 0 ? [{ iova, length }] : this.ranges) {
        report.mark(floorPage(range.iova), ceilPage(range.iova + range.length));
      }
      return report.bitmap;
    }
    const first = Math.floor(floorPage(iova) / this.pageBytes);
    const last = Math.ceil(ceilPage(iova + length) / this.pageBytes) - 1;
    for (const [index, block] of this.blocks) {
      const start = index * BLOCK_PAGES;
      const pages = takePages(block, Math.max(0, first - start), Math.min(BLOCK_PAGES - 1, last - start));
      for (const page of pages) report.mark((start + page) * this.pageBytes, (start + page + 1) * this.pageBytes);
      if (pages.length > 0) yield* condResched();
    }
    return report.bitmap;
  }

  private isLogged(page: number): boolean {
    if (this.ranges.length === 0) return true;
    const start = BigInt(page) * BigInt(this.pageBytes);
    const end = start + BigInt(this.pageBytes);
    return this.ranges.some((range) => range.iova < end && range.iova + range.length > start);
  }
}

/** The dirty pages of a block from `first` to `last`, which are clean from here on. */
function takePages(block: Uint8Array, first: number, last: number): number[] {
  const pages: number[] = [];
  for (let at = first >> 3; at <= last >> 3; at++) {
    for (let bit = 0; block[at] >> bit !== 0; bit++) {
      const page = 8 * at + bit;
      if ((block[at] & (1 << bit)) === 0 || page < first || page > last) continue;
      block[at] &= ~(1 << bit);
      pages.push(page);
    }
  }
  return pages;
}

const SYSTEM_PAGE = BigInt(PAGE_SIZE);

/** Doubles hold multiples of 4096 up to 2^64. */
function floorPage(address: bigint): number {
  return Number((address / SYSTEM_PAGE) * SYSTEM_PAGE);
}

function ceilPage(address: bigint): number {
  return floorPage(address + SYSTEM_PAGE - 1n);
}

/**
 * The bitmap of a report, in whole numbers of 4096 bytes. A report may begin and end inside of such a page. Its bits
 * stand for multiples of 4096 bytes, so rounding outwards does not change which of them a page touches.
 */
class Report {
  readonly bitmap: Uint8Array;
  private readonly iova: { readonly floor: number; readonly ceil: number };
  private readonly length: number;
  private readonly pageSize: number;

  constructor(iova: bigint, length: bigint, pageSize: bigint) {
    this.bitmap = new Uint8Array(DmaLog.bitmapBytes(iova, length, pageSize));
    this.iova = { floor: floorPage(iova), ceil: ceilPage(iova) };
    this.length = ceilPage(length);
    this.pageSize = Number(pageSize);
  }

  /** Sets the bits of the bytes from `start` to `end`, as far as they lie in the report. Both are whole pages. */
  mark(start: number, end: number): void {
    const from = Math.max(0, start - this.iova.ceil);
    const to = Math.min(end - this.iova.floor, this.length);
    if (to <= from) return;
    const last = Math.ceil(to / this.pageSize) - 1;
    for (let bit = Math.floor(from / this.pageSize); bit <= last; ) {
      // A range may have millions of bits: those of whole bytes are set at once.
      const wholeBytes = (bit & 7) === 0 ? (last + 1 - bit) >> 3 : 0;
      if (wholeBytes > 0) this.bitmap.fill(0xff, bit >> 3, (bit >> 3) + wholeBytes);
      else this.bitmap[bit >> 3] |= 1 << (bit & 7);
      bit += Math.max(1, 8 * wholeBytes);
    }
  }
}
