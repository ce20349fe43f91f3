/** The common part of all fuzzers. */
import { errnoName } from '../../src/abi/errno.ts';
import { textTable } from '../../src/report/table.ts';
import { openFds } from '../linux/open-fds.ts';
import { FuzzRandom } from './random.ts';

/** Counts outcomes, to reveal a fuzzer that never gets past the first checks. */
export class Coverage {
  private readonly counts = new Map<string, number>();
  /** By command and outcome: an errno, 0 for success, or a word. */
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

  /** The counts, one line each, ordered by name. */
  lines(): string[] {
    return [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, count]) => `${what}: ${count}`);
  }

  /** Commands and outcomes, the most frequent first; empty if no commands were sent. */
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
  /** The seed of `random`, for messages. */
  seed: number;
}

/** Sends `messages` messages. Throws its finding. */
export type Fuzzer = (run: FuzzRun) => void | Promise<void>;

/** The server or a reader broke a rule. */
export class FuzzFinding extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FuzzFinding';
  }
}

const MAX_GROWTH_BYTES = 192 << 20;

export interface FuzzResult {
  coverage: Coverage;
  /** How many more descriptors the process has than before. */
  leftFds: number;
  grownBytes: number;
  seconds: number;
}

/** Runs a fuzzer with a seed, and checks the common rules: it leaves no descriptors and no memory. */
export async function runFuzzer(fuzzer: Fuzzer, messages: number, seed: number): Promise<FuzzResult> {
  const coverage = new Coverage();
  // Makes all one-time objects before anything is counted.
  await fuzzer({
    random: new FuzzRandom(seed + 1),
    messages: Math.min(messages, 2000),
    coverage: new Coverage(),
    seed: seed + 1,
  });
  const before = openFds().length;
  const rssBefore = process.memoryUsage.rss();
  const started = performance.now();
  await fuzzer({ random: new FuzzRandom(seed), messages, coverage, seed });
  const seconds = (performance.now() - started) / 1000;
  const leftFds = openFds().length - before;
  if (leftFds !== 0) throw new FuzzFinding(`${leftFds} descriptors are left`);
  const grownBytes = process.memoryUsage.rss() - rssBefore;
  if (grownBytes > MAX_GROWTH_BYTES) throw new FuzzFinding(`memory grew by ${grownBytes >> 20} MiB`);
  return { coverage, leftFds, grownBytes, seconds };
}
