/** A copy of the tree with instrumented sources, in which tests run with one mutant switched on. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { killGroup } from '../cli/barter.ts';
import { ACTIVE_MUTANT } from './mutants.ts';
import { Patience } from './patience.ts';

const fileBeside = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const COVERAGE = fileBeside('./coverage.mjs');
const TOGETHER = fileBeside('./together.mjs');
const FIRST_FAILURE = fileBeside('./first-failure.mjs');

export interface TestRun {
  passed: boolean;
  /** The test file that failed; null when none did, or when a run ended without saying so. */
  failed: string | null;
  ms: number;
}

export class Sandbox {
  private readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'barter-mutation-')));
  /** Temporary files of all runs, killed ones too, and the cache of tsx. The short name leaves room for sockets. */
  private readonly scratch = mkdtempSync(join(tmpdir(), 'bm-'));

  constructor(root: string, contents: ReadonlyMap<string, string>) {
    const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root });
    for (const file of listed.toString().trimEnd().split('\n')) {
      const to = join(this.folder, file);
      mkdirSync(dirname(to), { recursive: true });
      const content = contents.get(file);
      if (content !== undefined) writeFileSync(to, content);
      else if (existsSync(join(root, file))) cpSync(join(root, file), to);
    }
    symlinkSync(join(root, 'node_modules'), join(this.folder, 'node_modules'));
  }

  /** Runs a test without a mutant, and finds which ones it comes by. A run that is silent for `maxMs` is ended. */
  async cover(test: string, maxMs: number): Promise<TestRun & { covered: Set<string> }> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-coverage-'));
    try {
      const run = await this.run([test], ['--import', COVERAGE], { BARTER_MUTATION_COVERAGE: folder }, maxMs);
      const ids = readdirSync(folder).flatMap(
        (name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as string[],
      );
      return { ...run, covered: new Set(ids) };
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Runs tests in one process, with a mutant or none, until one fails. A run that is silent for `maxMs` has failed. */
  runWith(tests: readonly string[], mutant: string | null, maxMs: number): Promise<TestRun> {
    return this.run(tests, [], mutant === null ? {} : { [ACTIVE_MUTANT]: mutant }, maxMs);
  }

  close(): void {
    for (const folder of [this.folder, this.scratch]) rmSync(folder, { recursive: true, force: true });
  }

  private async run(
    tests: readonly string[],
    options: readonly string[],
    env: Readonly<Record<string, string>>,
    maxMs: number,
  ): Promise<TestRun> {
    const started = performance.now();
    const reporter = [`--test-reporter=${FIRST_FAILURE}`, '--test-reporter-destination=stdout'];
    const files = tests.map((test) => join(this.folder, test));
    const imports = ['--conditions=barter-source', '--import', 'tsx', ...options];
    const child = spawn(process.execPath, [...imports, ...reporter, TOGETHER, ...files], {
      cwd: this.folder,
      env: { ...process.env, TMPDIR: this.scratch, ...env },
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    const patience = new Patience(child.pid!, maxMs, () => killGroup(child));
    let failed: string | null = null;
    createInterface({ input: child.stdout }).on('line', (line) => {
      patience.refresh();
      if (line.startsWith('failed ')) failed = line.slice(`failed ${this.folder}/`.length);
    });
    const closed = once(child, 'close');
    const [status] = await once(child, 'exit');
    patience.close();
    killGroup(child);
    // A process that left the group may keep stdout open.
    await Promise.race([closed, setTimeoutAsync(1000, null, { ref: false })]);
    return { passed: status === 0, failed, ms: performance.now() - started };
  }
}
