/** A small seeded generator of random numbers (Marsaglia's xorshift32). It gives the same numbers on every machine. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed ^ 0x9e3779b9) | 0 || 1;
  }

  /** An integer from 0 to `end` - 1; `end` is at most 2^32. */
  below(end: number): number {
    return this.next() % end;
  }

  /** At least 0 and less than 1. */
  fraction(): number {
    return this.next() / 2 ** 32;
  }

  /** Returns one of the names, with a probability in proportion to its weight. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let left = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    return entries.find(([, weight]) => {
      left -= weight;
      return left < 0;
    })![0];
  }

  private next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x | 0;
    return x >>> 0;
  }
}
