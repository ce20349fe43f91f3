/** Runs all command lines in one other process: a process for each would take minutes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ROOT } from './barter.ts';
import type { ManyResult } from './run-many.ts';

/** Fails with the command that has not ended within `timeoutMs`, which is for all of them. */
export function runAll(commands: readonly (readonly string[])[], timeoutMs: number): ManyResult[] {
  const args = [
    '--conditions=barter-source',
    '--import',
    'tsx',
    fileURLToPath(new URL('./run-many.ts', import.meta.url)),
  ];
  const input = JSON.stringify(commands);
  const { stdout, stderr, status } = spawnSync(process.execPath, args, {
    input,
    encoding: 'utf8',
    cwd: ROOT,
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 64 << 20,
  });
  const results = stdout.match(/.+\n/g)?.map((line) => JSON.parse(line) as ManyResult) ?? [];
  const stuck = commands[results.length];
  assert.equal(stuck, undefined, `barter ${stuck?.join(' ')} did not end: status ${status}\n${stderr}`);
  return results;
}
