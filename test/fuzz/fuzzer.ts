/** What all fuzzers have in common, and the list of them. */
import { openFds } from '../linux/open-fds.ts';
import { Random } from './random.ts';

/** Counts what was met, so that a fuzzer that only knocks at the door shows. */
export class Coverage {
  private readonly counts = new Map<string, number>();

  hit(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  get(what: string): number {
    return this.counts.get(what) ?? 0;
  }

  /** One line each, in order of their names. */
  lines(): string[] {
    return [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, count]) => `${what}: ${count}`);
  }
}

export interface FuzzRun {
  random: Random;
  messages: number;
  coverage: Coverage;
}

/** Sends `messages` messages; throws what it found. */
export type Fuzzer = (run: FuzzRun) => void;

/** The server or a reader did what it must never do. */
export class Finding extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Finding';
  }
}

const MOST_GROWTH_BYTES = 192 << 20;

/** Runs a fuzzer with a seed, and checks what holds for all: no descriptor and no memory is left. */
export function runFuzzer(fuzzer: Fuzzer, messages: number, seed: number): Coverage {
  const coverage = new Coverage();
  // What is made once is made before anybody counts.
  fuzzer({ random: new Random(seed + 1), messages: Math.min(messages, 2000), coverage: new Coverage() });
  const before = openFds().length;
  const rssBefore = process.memoryUsage.rss();
  fuzzer({ random: new Random(seed), messages, coverage });
  const left = openFds().length - before;
  if (left !== 0) throw new Finding(`${left} descriptors are left`);
  const grown = process.memoryUsage.rss() - rssBefore;
  if (grown > MOST_GROWTH_BYTES) throw new Finding(`memory grew by ${grown >> 20} MiB`);
  return coverage;
}
