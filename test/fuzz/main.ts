/**
 * npm run fuzz -- [NAME] [--messages N] [--seed S]: one fuzzer, or all of them. The seed is printed, and repeats a
 * run. Exits with 1 when something was found; `smoke` is short, and `canary` must fail.
 */
import { parseArgs } from 'node:util';
import { FUZZERS, fuzz } from './registry.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { messages: { type: 'string', default: '100000' }, seed: { type: 'string' } },
});
const messages = Number(values.messages);
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
const [name] = positionals;
const known = [...Object.keys(FUZZERS), 'smoke', 'canary'];
if ((name !== undefined && !known.includes(name)) || !Number.isSafeInteger(messages) || !Number.isSafeInteger(seed)) {
  console.error(`usage: npm run fuzz -- [${known.join(' | ')}] [--messages N] [--seed S]`);
  process.exit(2);
}

for (const each of name === undefined ? Object.keys(FUZZERS) : [name]) {
  const started = performance.now();
  try {
    for (const line of fuzz(each, messages, seed).flatMap((coverage) => coverage.lines())) console.log(`  ${line}`);
    console.log(`${each}: seed ${seed}, nothing found in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  } catch (error) {
    console.error(`${each}: seed ${seed}: ${(error as Error).stack}`);
    process.exitCode = 1;
  }
}
