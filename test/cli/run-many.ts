/**
 * Runs many command lines in this process, one after the other. Reads their arguments as JSON and writes the result of
 * each as a line of JSON.
 */
import { readFileSync, writeSync } from 'node:fs';
import { main } from '../../src/cli/main.ts';

export interface ManyResult {
  status: number | string | null | undefined;
  stdout: string;
  stderr: string;
}

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
  writeSync(1, `${JSON.stringify({ status: process.exitCode, ...written } satisfies ManyResult)}\n`);
}
process.exit(0);
