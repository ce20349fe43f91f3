/**
 * The rule of a soak. A server without clients may hold no more than its plateau: the most that it held in the rounds
 * of the warm-up, and some room. Counts have no room. The JavaScript heap grows and shrinks by chunks, so mappings and
 * resident memory have room, and are too much only when two rounds in a row are.
 */
import { largest, QUANTITIES, type Quantity, type Usage } from './usage.ts';

interface Room {
  readonly factor: number;
  readonly more: number;
  /** How many rounds in a row must be above. */
  readonly rounds: number;
}

const EXACT: Room = { factor: 1, more: 0, rounds: 1 };
export const ROOM: Readonly<Record<Quantity, Room>> = {
  fds: EXACT,
  sessions: EXACT,
  threads: EXACT,
  files: EXACT,
  mappings: { factor: 1.1, more: 64, rounds: 2 },
  rssMiB: { factor: 1.1, more: 24, rounds: 2 },
};

/** The warm-up takes a third of the rounds, at least two and at most ten. */
export function warmUpRounds(rounds: number): number {
  return Math.max(2, Math.min(10, Math.floor(rounds / 3)));
}

export class Plateau {
  private readonly warmUp: number;
  private plateau: Usage | null = null;
  private rounds = 0;
  private readonly above = new Map<Quantity, number>();

  constructor(warmUp: number) {
    this.warmUp = warmUp;
  }

  get isWarm(): boolean {
    return this.rounds >= this.warmUp;
  }

  limit(quantity: Quantity): number {
    const { factor, more } = ROOM[quantity];
    return this.plateau === null || !this.isWarm ? Number.POSITIVE_INFINITY : this.plateau[quantity] * factor + more;
  }

  /** Whether the counts without room are within their limits. A server may take a moment to get there. */
  isSettled(usage: Usage): boolean {
    return QUANTITIES.every((each) => ROOM[each] !== EXACT || usage[each] <= this.limit(each));
  }

  /** Adds the values of a quiet server after a round; returns a sentence for each quantity that grew. */
  add(usage: Usage): string[] {
    const grown = QUANTITIES.filter((each) => {
      const rounds = usage[each] > this.limit(each) ? (this.above.get(each) ?? 0) + 1 : 0;
      this.above.set(each, rounds);
      return rounds >= ROOM[each].rounds;
    });
    const told = grown.map((each) => `${each} grew to ${usage[each]}; the plateau is ${this.limit(each).toFixed(0)}`);
    if (!this.isWarm) this.plateau = this.plateau === null ? usage : largest(this.plateau, usage);
    this.rounds += 1;
    return told;
  }
}
