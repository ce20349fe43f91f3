/** barter bench: speed, as ratios against a named reference in the same run. */
import type { Command } from 'commander';
import { type BenchResult, missesBar } from '../../bench/result.ts';
import { paint } from '../report/colour.ts';
import { textTable } from '../report/table.ts';
import { declareCommand } from './summaries.ts';
import { known } from './usage.ts';

type Bench = () => BenchResult[] | Promise<BenchResult[]>;

/** The benchmarks by name; each is loaded on demand. */
const BENCHES: Record<string, { describe: string; load: () => Promise<Bench> }> = {
  cli: {
    describe: 'how soon the command answers, against an empty Node',
    load: async () => (await import('../../bench/cli.ts')).benchCli,
  },
  engine: {
    describe: 'exports, mappings and revokes in process, and what a live buffer takes',
    load: async () => (await import('../../bench/engine.ts')).benchEngine,
  },
  explore: {
    describe: 'whole searches and steps per second, against the best tool in C; one thread against two: 4 minutes',
    load: async () => (await import('../../bench/explore.ts')).benchExplore,
  },
  dma: {
    describe: 'copies by the I/OAT engine, in process and served, against memcpy',
    load: async () => (await import('../../bench/dma.ts')).benchDma,
  },
  'vfio-user': {
    describe: 'round trips of a served device against C, DMA against memcpy, time to a listening socket',
    load: async () => (await import('../../bench/vfio-user.ts')).benchVfioUser,
  },
  http: {
    describe: 'messages of a server with its live page, watched and not, against one without',
    load: async () => (await import('../../bench/http.ts')).benchHttp,
  },
  'dma-buf': {
    describe: 'a BAR lent to another process: bytes, revokes and the death of the importer against their bars',
    load: async () => (await import('../../bench/dma-buf.ts')).benchDmaBuf,
  },
  lab: {
    describe: 'from the start of QEMU to a command in a guest, against a bare kernel with the same options',
    load: async () => (await import('../../bench/lab.ts')).benchLab,
  },
};

/** For completion. */
export const benchNames = (): string[] => Object.keys(BENCHES);

export function addBenchCommand(program: Command): void {
  declareCommand(program, 'bench')
    .argument('[name]', Object.keys(BENCHES).join(', '))
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Benchmarks:
${Object.entries(BENCHES)
  .map(([name, { describe }]) => `  ${name.padEnd(10)} ${describe}`)
  .join('\n')}

Examples:
  barter bench
  barter bench explore --json
  LIBVFIO_USER=~/libvfio-user barter bench vfio-user    against a built checkout, too (docs/benchmarks.md)`,
    )
    .action((name: string | undefined, options: { json?: true }) => bench(name, options.json === true));
}

async function bench(name: string | undefined, json: boolean): Promise<void> {
  if (name !== undefined) known('benchmark', name, Object.keys(BENCHES));
  const results: BenchResult[] = [];
  for (const [each, { load }] of Object.entries(BENCHES)) {
    if (name !== undefined && name !== each) continue;
    if (!json) console.error(`${each} ...`);
    results.push(...(await (await load())()));
  }
  if (results.some(missesBar)) process.exitCode = 1;
  if (json) console.log(JSON.stringify({ results }));
  else print(results);
}

function verdictOf({ bar = 1, most }: BenchResult): string {
  return most === undefined ? `below ${bar}` : `above ${most}`;
}

function print(results: readonly BenchResult[]): void {
  const rows = results.map((result) => [
    result.name,
    `${result.value.toPrecision(4)} ${result.unit}`,
    typeof result.reference === 'number' ? `${result.reference} ${result.unit}` : result.reference,
    result.ratio.toFixed(2),
    missesBar(result) ? paint('bad', verdictOf(result)) : paint('good', 'good'),
  ]);
  console.log(textTable(['benchmark', 'value', 'reference', 'ratio', ''], rows));
}
