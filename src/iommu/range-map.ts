/**
 * A map from disjoint address ranges to values, in order. The cost of a range does not grow up to a quarter of a
 * million.
 */

/** A larger block is split in two: an insertion moves at most this many entries. */
const MAX_BLOCK = 256;

/** A block of neighbouring ranges. Bounds lie side by side as numbers, so that a search stays in the cache. */
class Block<T> {
  readonly starts: number[];
  readonly ends: number[];
  readonly values: T[];

  constructor(starts: number[], ends: number[], values: T[]) {
    this.starts = starts;
    this.ends = ends;
    this.values = values;
  }

  insert(at: number, start: number, end: number, value: T): void {
    if (at === this.ends.length) {
      this.starts.push(start);
      this.ends.push(end);
      this.values.push(value);
      return;
    }
    this.starts.splice(at, 0, start);
    this.ends.splice(at, 0, end);
    this.values.splice(at, 0, value);
  }

  /** Removes `count` entries from `at` on; returns their values. */
  remove(at: number, count: number): T[] {
    this.starts.splice(at, count);
    this.ends.splice(at, count);
    return this.values.splice(at, count);
  }

  /** Keeps the first half and returns the second. */
  split(): Block<T> {
    const half = this.ends.length >>> 1;
    return new Block(this.starts.splice(half), this.ends.splice(half), this.values.splice(half));
  }
}

export class RangeMap<T> {
  /** In order; never empty ones. */
  private readonly blocks: Block<T>[] = [];
  /** Where the last range of each block ends. */
  private readonly lasts: number[] = [];
  private count = 0;

  get size(): number {
    return this.count;
  }

  /** The value of the range that holds `address`; null where none does. */
  find(address: number): T | null {
    const index = firstAbove(this.lasts, address);
    if (index === this.blocks.length) return null;
    const { starts, ends, values } = this.blocks[index];
    const at = firstAbove(ends, address);
    return starts[at] <= address ? values[at] : null;
  }

  /** The value of the first range that shares an address with `start` up to `end`; null where none does. */
  firstOverlap(start: number, end: number): T | null {
    const index = firstAbove(this.lasts, start);
    if (index === this.blocks.length) return null;
    const { starts, ends, values } = this.blocks[index];
    const at = firstAbove(ends, start);
    return starts[at] < end ? values[at] : null;
  }

  /** Every value whose range shares an address with `start` up to `end`, in order. */
  *overlapping(start: number, end: number): Generator<T> {
    for (let index = firstAbove(this.lasts, start); index < this.blocks.length; index++) {
      const { starts, ends, values } = this.blocks[index];
      for (let at = firstAbove(ends, start); at < ends.length; at++) {
        if (starts[at] >= end) return;
        yield values[at];
      }
    }
  }

  /** Returns false, with nothing done, if another range overlaps. `start` is below `end`. */
  insert(start: number, end: number, value: T): boolean {
    if (this.firstOverlap(start, end) !== null) return false;
    // After all ranges: the last block grows.
    const index = Math.min(firstAbove(this.lasts, start), this.blocks.length - 1);
    if (index < 0) {
      this.blocks.push(new Block([start], [end], [value]));
      this.lasts.push(end);
    } else {
      const block = this.blocks[index];
      block.insert(firstAbove(block.ends, start), start, end, value);
      if (block.ends.length > MAX_BLOCK) {
        const second = block.split();
        this.blocks.splice(index + 1, 0, second);
        this.lasts.splice(index + 1, 0, second.ends[second.ends.length - 1]);
      }
      this.lasts[index] = block.ends[block.ends.length - 1];
    }
    this.count += 1;
    return true;
  }

  /** Removes every range that shares an address with `start` up to `end`; returns their values in order. */
  remove(start: number, end: number): T[] {
    const gone: T[] = [];
    let index = firstAbove(this.lasts, start);
    while (index < this.blocks.length && this.blocks[index].starts[0] < end) {
      const block = this.blocks[index];
      const from = firstAbove(block.ends, start);
      let to = from;
      while (to < block.starts.length && block.starts[to] < end) to += 1;
      for (const value of block.remove(from, to - from)) gone.push(value);
      if (block.ends.length === 0) {
        this.blocks.splice(index, 1);
        this.lasts.splice(index, 1);
      } else {
        this.lasts[index] = block.ends[block.ends.length - 1];
        index += 1;
      }
    }
    this.count -= gone.length;
    return gone;
  }

  *values(): Generator<T> {
    for (const { values } of this.blocks) yield* values;
  }
}

/** The index of the first number of `sorted` above `limit`; its length where there is none. */
function firstAbove(sorted: readonly number[], limit: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
