/**
 * npm run fuzz -- [NAME] [--messages N] [--seed S] [--replay FILE]: runs one fuzzer, or all of them. Prints the seed,
 * which repeats a run. Exits with 1 after a finding. `smoke` is short, and `canary` must fail.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { FuzzResult } from './fuzzer.ts';
import { FUZZERS, planOf } from './registry.ts';
import { replaySteps } from './replay.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    messages: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    replay: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const messages = Number(values.messages);
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
const [name] = positionals;
const known = [...Object.keys(FUZZERS), 'smoke', 'canary'];
const isWrong =
  (name !== undefined && !known.includes(name)) || !Number.isSafeInteger(messages) || !Number.isSafeInteger(seed);
if (isWrong || values.help) {
  console.error(`usage: npm run fuzz -- [${known.join(' | ')}] [--messages N] [--seed S] [--replay FILE]
  Sends N messages (100000) to each fuzzer, or to the one named; S repeats a run. Exits with 1 for a finding.
  FILE has the steps that a finding prints, one JSON document a line.
examples:
  npm run fuzz -- --messages 1000000
  npm run fuzz -- canary             # servers and clients with a known defect: this must fail`);
  process.exit(isWrong ? 2 : 0);
}

function report(each: string, { coverage, leftFds, grownBytes, seconds }: FuzzResult): void {
  if (coverage.table() !== '') console.log(`${coverage.table()}\n`);
  for (const line of coverage.lines()) console.log(`  ${line}`);
  const rate = (messages / seconds).toFixed(0);
  const left = `${leftFds} descriptors left, memory ${(grownBytes / 2 ** 20).toFixed(0)} MiB more than before`;
  console.log(`${each}: seed ${seed}, nothing found in ${seconds.toFixed(1)} s, ${rate} messages/s; ${left}\n`);
}

async function fails(what: string, body: () => void | Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    console.error(`${what}: seed ${seed}: ${(error as Error).stack}`);
    process.exitCode = 1;
  }
}

if (values.replay !== undefined) {
  const text = readFileSync(values.replay, 'utf8');
  await fails(values.replay, () => replaySteps(text));
} else {
  for (const { name: each, run } of planOf(name, messages))
    await fails(each, async () => report(each, await run(seed)));
}
