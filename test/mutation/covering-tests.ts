/** The tests that come by the mutants of a folder, and the search for one that kills a mutant. */
import { availableParallelism } from 'node:os';
import type { Mutant } from './mutants.ts';
import type { Sandbox } from './sandbox.ts';
import { inOrder } from './selection.ts';

interface CoveringTest {
  readonly test: string;
  /** How long it takes without a mutant. */
  readonly ms: number;
  /** The mutants that it comes by. */
  readonly covered: ReadonlySet<string>;
}

/** Tests that take longer run one by one, after the others. */
const SHORT_MS = 5000;

/** Calls `work` for each item, on two processors if there are two. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items.values();
  const worker = async () => {
    for (const item of left) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
}

export class CoveringTests {
  private readonly sandbox: Sandbox;
  private readonly longestMs: number;
  private readonly tests: CoveringTest[] = [];
  /** Short tests that also pass in one process with others. */
  private readonly sociable = new Set<CoveringTest>();

  private constructor(sandbox: Sandbox, longestMs: number) {
    this.sandbox = sandbox;
    this.longestMs = longestMs;
  }

  /** Runs each test once without a mutant. Those that fail or are silent for too long are named and left out. */
  static async find(sandbox: Sandbox, tests: readonly string[], longestMs: number): Promise<CoveringTests> {
    const found = new CoveringTests(sandbox, longestMs);
    await inParallel(tests, async (test) => {
      const { passed, ms, covered } = await sandbox.cover(test, longestMs);
      if (passed && covered.size > 0) found.tests.push({ test, ms, covered });
      if (!passed) console.log(`  ${test} ${ms >= longestMs ? 'takes too long' : 'fails without a mutant'}: left out`);
    });
    await found.findSociable();
    return found;
  }

  areThere(mutant: Mutant): boolean {
    return this.tests.some(({ covered }) => covered.has(mutant.id));
  }

  /** The test that fails with the mutant; null if all pass that come by it. */
  async killerOf(mutant: Mutant): Promise<string | null> {
    const covering = inOrder(
      mutant.file,
      this.tests.filter(({ covered }) => covered.has(mutant.id)),
    );
    const together = covering.filter((each) => this.sociable.has(each));
    const alone = covering.filter((each) => !this.sociable.has(each));
    while (together.length > 0) {
      const { passed, failed } = await this.run(together, mutant.id);
      if (passed) break;
      const at = together.findIndex(({ test }) => test === failed);
      if (at === -1) return 'a run that did not end, or that did not start';
      // On a busy machine a test can fail by chance: it must fail twice, the second time alone.
      const [suspect] = together.splice(0, at + 1).slice(-1);
      if (!(await this.run([suspect], mutant.id)).passed) return suspect.test;
    }
    for (const each of alone) if (!(await this.run([each], mutant.id)).passed) return each.test;
    return null;
  }

  /** Tests that fail for another reason than a mutant, such as a package that is gone, would kill everything. */
  async assertStillRight(): Promise<void> {
    const [fastest] = [...this.tests].sort((a, b) => a.ms - b.ms);
    if (fastest === undefined || (await this.run([fastest], null)).passed) return;
    throw new Error(`${fastest.test} fails without a mutant now: the verdicts mean nothing; run them again`);
  }

  private async findSociable(): Promise<void> {
    const short = inOrder(
      '',
      this.tests.filter(({ ms }) => ms < SHORT_MS),
    );
    for (;;) {
      const { passed, failed } = await this.run(short, null);
      const at = short.findIndex(({ test }) => test === failed);
      if (!passed && at === -1) throw new Error('the tests do not run in one process');
      if (passed) break;
      short.splice(at, 1);
    }
    for (const each of short) this.sociable.add(each);
  }

  private run(tests: readonly CoveringTest[], mutant: string | null) {
    const longest = Math.max(0, ...tests.map(({ ms }) => ms));
    const names = tests.map(({ test }) => test);
    return this.sandbox.runWith(names, mutant, 10_000 + 4 * Math.min(longest, this.longestMs));
  }
}
