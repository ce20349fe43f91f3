/** What all fuzzers have in common, and the list of them. */
import { errnoName } from '../../src/abi/errno.ts';
import { textTable } from '../../src/report/table.ts';
import { openFds } from '../linux/open-fds.ts';
import { FuzzRandom } from './random.ts';

/** Counts what was met, so that a fuzzer that only knocks at the door shows. */
export class Coverage {
  private readonly counts = new Map<string, number>();
  /** By command and outcome: an errno, 0 where it was done, or a word. */
  private readonly outcomes = new Map<string, Map<string, number>>();

  count(what: string, times = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + times);
  }

  outcome(command: string, outcome: number | string): void {
    const name = typeof outcome === 'string' ? outcome : outcome === 0 ? 'ok' : errnoName(outcome);
    const row = this.outcomes.get(command) ?? new Map<string, number>();
    row.set(name, (row.get(name) ?? 0) + 1);
    this.outcomes.set(command, row);
  }

  get(what: string): number {
    return this.counts.get(what) ?? 0;
  }

  outcomesOf(command: string): ReadonlyMap<string, number> {
    return this.outcomes.get(command) ?? new Map();
  }

  /** The counts, one line each, in order of their names. */
  lines(): string[] {
    return [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, count]) => `${what}: ${count}`);
  }

  /** Commands and outcomes, the most frequent first; empty where no commands were sent. */
  table(): string {
    if (this.outcomes.size === 0) return '';
    const totals = new Map<string, number>();
    for (const row of this.outcomes.values())
      for (const [name, n] of row) totals.set(name, (totals.get(name) ?? 0) + n);
    const columns = [...totals].sort(([, a], [, b]) => b - a).map(([name]) => name);
    const rows = [...this.outcomes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([command, row]) => [command, ...columns.map((name) => String(row.get(name) ?? '.'))]);
    return textTable(['command', ...columns], rows);
  }
}

export interface FuzzRun {
  random: FuzzRandom;
  messages: number;
  coverage: Coverage;
  /** What `random` was made of, for messages. */
  seed: number;
}

/** Sends `messages` messages; throws what it found. */
export type Fuzzer = (run: FuzzRun) => void;

/** The server or a reader did what it must never do. */
export class FuzzFinding extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FuzzFinding';
  }
}

const MAX_GROWTH_BYTES = 192 << 20;

export interface FuzzResult {
  coverage: Coverage;
  /** What the process has more than before. */
  leftFds: number;
  grownBytes: number;
  seconds: number;
}

/** Runs a fuzzer with a seed, and checks what holds for all: no descriptor and no memory is left. */
export function runFuzzer(fuzzer: Fuzzer, messages: number, seed: number): FuzzResult {
  const coverage = new Coverage();
  // What is made once is made before anybody counts.
  fuzzer({
    random: new FuzzRandom(seed + 1),
    messages: Math.min(messages, 2000),
    coverage: new Coverage(),
    seed: seed + 1,
  });
  const before = openFds().length;
  const rssBefore = process.memoryUsage.rss();
  const started = performance.now();
  fuzzer({ random: new FuzzRandom(seed), messages, coverage, seed });
  const seconds = (performance.now() - started) / 1000;
  const leftFds = openFds().length - before;
  if (leftFds !== 0) throw new FuzzFinding(`${leftFds} descriptors are left`);
  const grownBytes = process.memoryUsage.rss() - rssBefore;
  if (grownBytes > MAX_GROWTH_BYTES) throw new FuzzFinding(`memory grew by ${grownBytes >> 20} MiB`);
  return { coverage, leftFds, grownBytes, seconds };
}
