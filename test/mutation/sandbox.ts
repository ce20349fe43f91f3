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
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { killGroup } from '../cli/barter.ts';
import { ACTIVE_MUTANT } from './mutants.ts';

const COVERAGE = fileURLToPath(new URL('./coverage.mjs', import.meta.url));

export interface TestRun {
  passed: boolean;
  /** Mutants that the run came by; empty unless it was asked for. */
  covered: Set<string>;
  ms: number;
}

export class Sandbox {
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-mutation-'));

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

  /** Runs a test without a mutant, and finds which ones it comes by. A run that takes longer is ended. */
  async cover(test: string, maxMs: number): Promise<TestRun> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-coverage-'));
    try {
      const run = await this.run(test, ['--import', COVERAGE], { BARTER_MUTATION_COVERAGE: folder }, maxMs);
      const ids = readdirSync(folder).flatMap(
        (name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as string[],
      );
      return { ...run, covered: new Set(ids) };
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Runs a test with a mutant. A run that takes longer than `maxMs` has not passed. */
  runWith(test: string, mutant: string, maxMs: number): Promise<TestRun> {
    return this.run(test, [], { [ACTIVE_MUTANT]: mutant }, maxMs);
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async run(
    test: string,
    options: readonly string[],
    env: Readonly<Record<string, string>>,
    maxMs: number,
  ): Promise<TestRun> {
    const started = performance.now();
    const args = ['--conditions=barter-source', '--import', 'tsx', ...options, test];
    const child = spawn(process.execPath, args, {
      cwd: this.folder,
      env: { ...process.env, ...env },
      stdio: 'ignore',
      detached: true,
    });
    const timer = setTimeout(() => killGroup(child), maxMs);
    const [status] = await once(child, 'exit');
    clearTimeout(timer);
    killGroup(child);
    return { passed: status === 0, covered: new Set(), ms: performance.now() - started };
  }
}
