/** Random numbers that a seed repeats (xorshift128, Marsaglia 2003). */
export class Random {
  private readonly state = new Uint32Array(4);

  constructor(seed: number) {
    for (let i = 0; i < 4; i++) this.state[i] = Math.imul(seed + i + 1, 0x9e3779b1) ^ 0x85ebca6b;
    for (let i = 0; i < 16; i++) this.bits();
  }

  /** 32 bits. */
  bits(): number {
    const { state } = this;
    let t = state[3];
    t ^= t << 11;
    t ^= t >>> 8;
    state[3] = state[2];
    state[2] = state[1];
    state[1] = state[0];
    state[0] = t ^ state[0] ^ (state[0] >>> 19);
    return state[0];
  }

  /** 0 to `end` - 1. */
  below(end: number): number {
    return this.bits() % end;
  }

  chance(oneIn: number): boolean {
    return this.bits() % oneIn === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.bits() % from.length];
  }

  /** A number where things break: near 0, near powers of two, near page borders, or anything. */
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
