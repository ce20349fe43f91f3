/** How long the command takes to answer: whole processes, against Node running an empty script. */
import { spawnSync } from 'node:child_process';
import { median } from '../src/demo/median.ts';
import { packageFile } from '../src/linux/package-file.ts';
import type { BenchResult } from './result.ts';

const RUNS = 15;
const MAX_RATIO = 2.5;
const REFERENCE = 'node -e 0';

const COMMANDS = {
  version: ['--version'],
  help: ['--help'],
};

function runMs(args: readonly string[]): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}: ${stderr}`);
  return performance.now() - start;
}

/** Command and reference run alternately, so that other load on the machine slows both alike. */
export function benchCli(): BenchResult[] {
  const bin = packageFile('bin/barter.cjs');
  return Object.entries(COMMANDS).map(([name, args]) => {
    const pairs = Array.from({ length: RUNS }, () => ({ empty: runMs(['-e', '0']), ours: runMs([bin, ...args]) }));
    return {
      name,
      value: median(pairs.map(({ ours }) => ours)),
      unit: 'ms',
      reference: REFERENCE,
      ratio: median(pairs.map(({ ours, empty }) => ours / empty)),
      most: MAX_RATIO,
      referenceMs: median(pairs.map(({ empty }) => empty)),
    };
  });
}
