/** Runs many command lines one after the other in this process: JSON of their arguments in, of their results out. */
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
  // A command listens for the end of its reader, and its process ends with it.
  process.stdout.removeAllListeners('error');
  await main(['node', 'barter', ...args]);
  results.push({ status: process.exitCode, ...written });
}
writeSync(1, JSON.stringify(results));
process.exitCode = 0;
