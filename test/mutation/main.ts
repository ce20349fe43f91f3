/**
 * npm run mutation -- [FILES] [--sample N] [--seed S]: changes the sources in one place at a time, and runs the tests
 * that come by. A mutant that all tests pass has survived. Exits with 1 when a folder's score is below its bar.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ROOT } from '../cli/barter.ts';
import { FuzzRandom } from '../fuzz/random.ts';
import { reasonOf } from './equivalent.ts';
import { instrument, type Mutant } from './mutants.ts';
import { Sandbox } from './sandbox.ts';
import { FOLDERS, inOrder, sourcesOf, testsOf } from './selection.ts';

const BAR = 0.92;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    longest: { type: 'string', default: '20' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const sample = values.sample === undefined ? Number.POSITIVE_INFINITY : Number(values.sample);
const seed = Number(values.seed);
const longestMs = 1000 * Number(values.longest);
const isWrong = !(sample >= 1) || !Number.isSafeInteger(seed) || !(longestMs > 0);
const known = positionals.every((path) => /^src\/[\w/-]+(\.ts)?$/.test(path));
if (isWrong || !known || values.help) {
  console.error(`usage: npm run mutation -- [FILES] [--sample N] [--seed S] [--longest SECONDS] [--json FILE]
  FILES are files or folders of src/ (default: ${FOLDERS.map((folder) => `src/${folder}`).join(' ')}).
  --sample N takes N mutants of each folder, which the seed chooses. Without it, all are run: hours.
  Tests that take longer than SECONDS (20) without a mutant are left out, and named.
  Exits with 1 when fewer than ${100 * BAR} % of a folder's mutants are killed, without those of equivalent.ts.`);
  process.exit(isWrong || !known ? 2 : 0);
}

type Verdict = 'killed' | 'survived' | 'equivalent' | 'not covered';

interface Tried extends Mutant {
  verdict: Verdict;
  /** The test that killed it, or the reason why it is equivalent. */
  by: string;
}

interface CoveringTest {
  readonly test: string;
  /** How long it takes without a mutant. */
  readonly ms: number;
  /** The mutants that it comes by. */
  readonly covered: ReadonlySet<string>;
}

/** Mutants of a sample, in their own order. */
function choose(mutants: readonly Mutant[]): Mutant[] {
  const random = new FuzzRandom(seed);
  const left = [...mutants];
  while (left.length > sample) left.splice(random.below(left.length), 1);
  return left;
}

/** Runs each test once without a mutant. Those that fail or take too long are named and left out. */
async function coverage(sandbox: Sandbox, tests: readonly string[]): Promise<CoveringTest[]> {
  const found: CoveringTest[] = [];
  for (const test of tests) {
    const { passed, ms, covered } = await sandbox.cover(test, longestMs);
    if (ms >= longestMs) console.log(`  ${test} takes too long, and is left out`);
    else if (!passed) console.log(`  ${test} fails without a mutant, and is left out`);
    else if (covered.size > 0) found.push({ test, ms, covered });
  }
  return found;
}

async function runFolder(folder: string, sources: readonly string[]): Promise<Tried[]> {
  const { contents, mutants } = await instrument(ROOT, sources);
  const sandbox = new Sandbox(ROOT, contents);
  const tried: Tried[] = [];
  try {
    const chosen = choose(mutants);
    console.log(`${folder}: ${mutants.length} mutants, ${chosen.length} of them are run (seed ${seed})`);
    const tests = await coverage(sandbox, testsOf(ROOT, sources));
    for (const mutant of chosen) {
      const result = { ...mutant, ...(await tryMutant(sandbox, mutant, tests)) };
      tried.push(result);
      if (result.verdict !== 'killed') console.log(`  ${describe(result)}`);
    }
    await assertStillRight(sandbox, tests);
  } finally {
    sandbox.close();
  }
  return tried;
}

/** Tests that fail for another reason than a mutant, such as a package that is gone, would kill everything. */
async function assertStillRight(sandbox: Sandbox, tests: readonly CoveringTest[]): Promise<void> {
  const [fastest] = [...tests].sort((a, b) => a.ms - b.ms);
  if (fastest === undefined || (await sandbox.cover(fastest.test, longestMs)).passed) return;
  throw new Error(`${fastest.test} fails without a mutant now: the verdicts mean nothing; run them again`);
}

async function tryMutant(
  sandbox: Sandbox,
  mutant: Mutant,
  tests: readonly CoveringTest[],
): Promise<{ verdict: Verdict; by: string }> {
  const why = reasonOf(mutant);
  if (why !== null) return { verdict: 'equivalent', by: why };
  const covering = tests.filter(({ covered }) => covered.has(mutant.id));
  for (const { test, ms } of inOrder(mutant.file, covering)) {
    const { passed } = await sandbox.runWith(test, mutant.id, 10_000 + 4 * ms);
    if (!passed) return { verdict: 'killed', by: test };
  }
  return { verdict: covering.length === 0 ? 'not covered' : 'survived', by: '' };
}

function describe({ file, line, mutator, original, replacement, verdict, by }: Tried): string {
  const short = (text: string) => text.replace(/\s+/g, ' ').slice(0, 100);
  const change = `${file}:${line} ${mutator}: ${short(original)} => ${short(replacement)}`;
  return `${verdict}: ${change}${by === '' ? '' : ` (${by})`}`;
}

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
