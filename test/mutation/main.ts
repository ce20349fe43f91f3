/**
 * npm run mutation -- [FILES] [--sample N] [--seed S]: changes the sources in one place at a time, and runs the tests
 * that come by. A mutant that all tests pass has survived. Exits with 1 when a folder's score is below its bar.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ROOT } from '../cli/barter.ts';
import { FuzzRandom } from '../fuzz/random.ts';
import { CoveringTests, inParallel } from './covering-tests.ts';
import { reasonOf } from './equivalent.ts';
import { instrument, type Mutant } from './mutants.ts';
import { Sandbox } from './sandbox.ts';
import { FOLDERS, sourcesOf, testsOf } from './selection.ts';

const BAR = 0.92;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    longest: { type: 'string', default: '20' },
    json: { type: 'string' },
    again: { type: 'string' },
    near: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const sample = values.sample === undefined ? Number.POSITIVE_INFINITY : Number(values.sample);
const seed = Number(values.seed);
const longestMs = 1000 * Number(values.longest);
const isWrong = !(sample >= 1) || !Number.isSafeInteger(seed) || !(longestMs > 0);
const known = positionals.every((path) => /^src\/[\w/-]+(\.ts)?$/.test(path));
if (isWrong || !known || values.help) {
  console.error(`usage: npm run mutation -- [FILES] [--sample N] [--seed S] [--longest SECONDS] [--near] [--json FILE]
                           [--again FILE]
  FILES are files or folders of src/ (default: ${FOLDERS.map((folder) => `src/${folder}`).join(' ')}).
  --sample N takes N mutants of each folder, which the seed chooses. Without it, all are run: hours.
  Tests that take longer than SECONDS (20) without a mutant are left out, and named.
  --near leaves out the tests of other folders that use a folder closely. It is faster, and kills no more.
  --again FILE runs those mutants alone that were not killed in a run that wrote FILE by --json.
  Exits with 1 when fewer than ${100 * BAR} % of a folder's mutants are killed, without those of equivalent.ts.`);
  process.exit(isWrong || !known ? 2 : 0);
}

type Verdict = 'killed' | 'survived' | 'equivalent' | 'not covered';

interface Tried extends Mutant {
  verdict: Verdict;
  /** The test that killed it, or the reason why it is equivalent. */
  by: string;
}

/** Mutants of a sample, in their own order. */
function choose(mutants: readonly Mutant[]): Mutant[] {
  const random = new FuzzRandom(seed);
  const left = [...mutants];
  while (left.length > sample) left.splice(random.below(left.length), 1);
  return left;
}

async function runFolder(folder: string, sources: readonly string[]): Promise<Tried[]> {
  const { contents, mutants } = await instrument(ROOT, sources);
  const sandbox = new Sandbox(ROOT, contents);
  const tried: Tried[] = [];
  try {
    const chosen = choose(mutants);
    console.log(`${folder}: ${mutants.length} mutants, ${chosen.length} of them are run (seed ${seed})`);
    const tests = await CoveringTests.find(sandbox, testsOf(ROOT, sources, values.near), longestMs);
    await inParallel(chosen, async (mutant) => {
      const result = { ...mutant, ...(await tryMutant(mutant, tests)) };
      tried.push(result);
      if (result.verdict !== 'killed') console.log(`  ${describe(result)}`);
    });
    await tests.assertStillRight();
  } finally {
    sandbox.close();
  }
  return tried;
}

async function tryMutant(mutant: Mutant, tests: CoveringTests): Promise<{ verdict: Verdict; by: string }> {
  const before = killedBefore.get(keyOf(mutant));
  if (before !== undefined) return { verdict: 'killed', by: before };
  const why = reasonOf(mutant);
  if (why !== null) return { verdict: 'equivalent', by: why };
  const by = await tests.killerOf(mutant);
  if (by !== null) return { verdict: 'killed', by };
  return { verdict: tests.areThere(mutant) ? 'survived' : 'not covered', by: '' };
}

function describe({ file, line, mutator, original, replacement, verdict, by }: Tried): string {
  const short = (text: string) => text.replace(/\s+/g, ' ').slice(0, 100);
  const change = `${file}:${line} ${mutator}: ${short(original)} => ${short(replacement)}`;
  return `${verdict}: ${change}${by === '' ? '' : ` (${by})`}`;
}

/** Sources that have changed have other ids. */
const keyOf = ({ id, file, original, replacement }: Mutant) => JSON.stringify([id, file, original, replacement]);
const earlier = values.again === undefined ? [] : (JSON.parse(readFileSync(values.again, 'utf8')) as Tried[]);
const killedBefore = new Map(
  earlier.filter(({ verdict }) => verdict === 'killed').map((mutant) => [keyOf(mutant), mutant.by]),
);

const paths = positionals.length > 0 ? positionals : FOLDERS.map((folder) => `src/${folder}`);
const sources = sourcesOf(ROOT, paths);
const folderOf = (source: string) => source.split('/')[1];
const all: Tried[] = [];
for (const folder of new Set(sources.map(folderOf))) {
  const tried = await runFolder(
    folder,
    sources.filter((source) => folderOf(source) === folder),
  );
  all.push(...tried);
  const count = (verdict: Verdict) => tried.filter((each) => each.verdict === verdict).length;
  const counted = tried.length - count('equivalent');
  const score = counted === 0 ? 1 : count('killed') / counted;
  console.log(
    `${folder}: ${count('killed')} of ${counted} killed, ${(100 * score).toFixed(1)} %; ` +
      `${count('equivalent')} equivalent, ${count('not covered')} not covered`,
  );
  if (score < BAR) process.exitCode = 1;
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(all, null, 1)}\n`);
