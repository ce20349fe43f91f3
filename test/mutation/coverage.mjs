// Preloaded into a test's process: at the end of each thread, writes down the mutants that it came by.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';

process.on('exit', () => {
  const covered = globalThis.__stryker__?.mutantCoverage?.static;
  if (covered === undefined) return;
  const name = `${process.pid}-${threadId}.json`;
  writeFileSync(join(process.env.BARTER_MUTATION_COVERAGE, name), JSON.stringify(Object.keys(covered)));
});
