/**
 * Runs many command lines in this process, one after the other. Reads their arguments as JSON and writes their results
 * as JSON.
 */
import { readFileSync, writeSync } from 'node:fs';
import { main } from '../../src/cli/main.ts';

export interface ManyResult {
  status: number | string | null | undefined;
  stdout: string;
  stderr: string;
}

const results: ManyResult[] = [];
for (const args of JSON.parse(readFileSync(0, 'utf8')) as string[][]) {
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (text: string | Uint8Array) => {
      written[name] += String(text);
      return true;
    };
  }
  process.exitCode = 0;
  // A command listens for the end of its reader, and then ends the process.
  process.stdout.removeAllListeners('error');
  await main(['node', 'barter', ...args]);
  results.push({ status: process.exitCode, ...written });
}
writeSync(1, JSON.stringify(results));
process.exitCode = 0;
