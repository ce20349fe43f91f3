/** Seeded random choices that favour numbers at the limits. */
import { Random } from '../../src/explore/search/random.ts';

export class FuzzRandom extends Random {
  /** A random 32-bit number. */
  bits(): number {
    return this.below(2 ** 32);
  }

  chance(oneIn: number): boolean {
    return this.bits() % oneIn === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.bits() % from.length];
  }

  /** A number at a limit: near 0, near powers of two, near page borders, or any number. */
  edge(): number {
    switch (this.below(5)) {
      case 0:
        return this.below(40);
      case 1:
        return Math.max(0, 2 ** this.below(33) - 2 + this.below(4));
      case 2:
        return 4096 * this.below(64);
      case 3:
        return 4096 * this.below(64) + this.below(9);
      default:
        return this.bits();
    }
  }
}
