/** barter lab: a real QEMU with a real kernel in it. */
import { rmSync } from 'node:fs';
import type { Command } from 'commander';
import { labCache } from '../../lab/cache.ts';
import { CommandError } from '../../lab/command.ts';
import { type DiffResult, labDiff } from '../../lab/diff/diff.ts';
import { LENDERS } from '../../lab/diff/lenders.ts';
import { missingStages, type Progress, prepareLab } from '../../lab/prepare.ts';
import { guestCapture } from '../../lab/runs/guest-capture.ts';
import { guestExport } from '../../lab/runs/guest-export.ts';
import type { LabResult, LabStep } from '../../lab/runs/run.ts';
import { describeStep } from '../scenario/run.ts';
import { UsageError } from './usage.ts';

type LabRun = (onStep: (step: LabStep) => void) => Promise<LabResult>;

/** By name; what `barter lab run` knows. */
const RUNS: Record<string, { describe: string; run: LabRun }> = {
  'guest-export': {
    describe: "the guest's vfio-pci exports a served device's BAR, loses it and regains it",
    run: guestExport,
  },
  'guest-capture': {
    describe: "the guest's own devices, captured from its sysfs and served again",
    run: guestCapture,
  },
};

export function addLabCommands(program: Command): void {
  const lab = program.command('lab').description("a real QEMU and a real Linux, from the distribution's packages");
  lab
    .command('prepare')
    .description('fetch QEMU and a kernel into the cache, outside the clone; what is there already is kept')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `${CACHE_HELP}\n\nExamples:\n  barter lab prepare\n  BARTER_CACHE=/var/cache/barter barter lab prepare`,
    )
    .action((options: { json?: true }) => reported(() => prepare(options.json === true)));
  lab
    .command('run')
    .argument('<name>', Object.keys(RUNS).join(', '))
    .description('boot the guest with served devices, and run something in it')
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Runs:
${Object.entries(RUNS)
  .map(([name, { describe }]) => `  ${name.padEnd(16)} ${describe}`)
  .join('\n')}

Examples:
  barter lab run guest-export
  barter lab run guest-export --json`,
    )
    .action((name: string, options: { json?: true }) => reported(() => run(name, options.json === true)));
  lab
    .command('diff')
    .description('random programs on the engine and on the kernel, compared step by step')
    .option('--steps <n>', 'how many steps, over all lenders', numberOption, 5000)
    .option('--seed <n>', 'which programs (printed; the same seed gives the same)', numberOption)
    .option('--lender <names>', `which devices lend: ${LENDERS.map((lender) => lender.name).join(', ')}`)
    .option('--json', 'print one JSON document')
    .addHelpText(
      'after',
      `
Each difference is shrunk to a short program. Exits with 1 when there is one.

Examples:
  barter lab diff
  barter lab diff --lender barter,igb --steps 500 --seed 7 --json`,
    )
    .action((options: DiffCommandOptions) => reported(() => diff(options)));
  lab
    .command('clean')
    .description('remove the cache')
    .addHelpText('after', CACHE_HELP)
    .action(() => rmSync(labCache(), { recursive: true, force: true }));
  for (const command of lab.commands) command.exitOverride();
}

const CACHE_HELP = `
The cache is $BARTER_CACHE/lab, else $XDG_CACHE_HOME/barter/lab, else ~/.cache/barter/lab; about 2 GB.
BARTER_MIRROR names a Debian mirror where apt's own sources name none.`;

interface DiffCommandOptions {
  steps: number;
  seed?: number;
  lender?: string;
  json?: true;
}

function numberOption(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new UsageError(`${text} is no number`);
  return value;
}

async function diff({ steps, seed = Date.now() % 2 ** 31, lender, json }: DiffCommandOptions): Promise<void> {
  const known = LENDERS.map((each) => each.name);
  const lenders = lender === undefined ? known : lender.split(',');
  const unknown = lenders.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new UsageError(`there is no lender ${unknown}; there are: ${known.join(', ')}`);
  await prepareMissing(json === true);
  const line = (text: string) => process.stderr.isTTY && process.stderr.write(`\r\x1b[K${text}`);
  const result = await labDiff({
    seed,
    steps,
    lenders,
    onProgress: (name, done, differences) => line(`${name}: ${done} steps, ${differences} differences`),
  });
  line('');
  if (result.differences.length > 0) process.exitCode = 1;
  if (json === true) console.log(JSON.stringify(result));
  else printDiff(result);
}

function printDiff({ seed, kernel, steps, agree, programs, differences }: DiffResult): void {
  for (const { lender, engine, kernel: theirs, program } of differences) {
    console.log(`\non ${lender}: the engine gives ${JSON.stringify(engine)}, the kernel ${JSON.stringify(theirs)}`);
    for (const step of program) console.log(`  ${describeStep(step)}`);
  }
  console.log(`\n${programs} programs, ${steps} steps, ${agree} agree (seed ${seed}, Linux ${kernel}).`);
}

/** What could not be done is a sentence, not a stack. */
async function reported(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    console.error(`barter: ${error.message}`);
    process.exitCode = 1;
  }
}

async function prepare(json: boolean): Promise<void> {
  const started = Date.now();
  await prepareLab(new StageProgress());
  if (json) console.log(JSON.stringify({ ok: true, cache: labCache(), seconds: (Date.now() - started) / 1000 }));
  else console.log(`The lab is ready in ${labCache()}. Next: barter lab run guest-export`);
}

/** A line for each stage, on stderr; on a terminal with a clock while it is under way. */
class StageProgress implements Progress {
  private started = 0;
  private timer: NodeJS.Timeout | null = null;

  begin(stage: string, what: string, usualSeconds: number): void {
    this.started = Date.now();
    const seconds = () => Math.round((Date.now() - this.started) / 1000);
    const line = () => `${stage.padEnd(10)} ${what} ... ${seconds()} s, usually about ${usualSeconds} s`;
    if (!process.stderr.isTTY) return;
    process.stderr.write(line());
    this.timer = setInterval(() => process.stderr.write(`\r${line()}`), 1000);
  }

  wait(pid: string): void {
    process.stderr.write(`Process ${pid} is preparing the lab; waiting for it ...\n`);
  }

  end(stage: string, cached: boolean): void {
    if (this.timer !== null) clearInterval(this.timer);
    const seconds = ((Date.now() - this.started) / 1000).toFixed(1);
    process.stderr.write(
      `${process.stderr.isTTY ? '\r\x1b[K' : ''}${stage.padEnd(10)} ${cached ? 'there already' : `made in ${seconds} s`}\n`,
    );
  }
}

async function prepareMissing(json: boolean): Promise<void> {
  const missing = missingStages();
  if (missing.length === 0) return;
  if (!json) console.error(`The lab is not ready (${missing.join(', ')}); preparing it, which takes some minutes.`);
  await prepareLab(new StageProgress());
}

async function run(name: string, json: boolean): Promise<void> {
  const wanted = RUNS[name];
  if (wanted === undefined)
    throw new UsageError(`there is no lab run ${name}; there are: ${Object.keys(RUNS).join(', ')}`);
  await prepareMissing(json);
  const result = await wanted.run((step) => {
    if (!json) printStep(step);
  });
  if (!result.ok) process.exitCode = 1;
  if (json) console.log(JSON.stringify(result));
  else
    console.log(`\n${result.ok ? 'All as expected' : 'NOT as expected'}: QEMU ${result.qemu}, Linux ${result.kernel}.`);
}

function printStep({ name, ok, ms, expected, seen }: LabStep): void {
  const time = ms === 0 ? '' : `${ms.toFixed(0)} ms`;
  const text = (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value));
  const what = ok ? text(seen ?? '') : `expected ${text(expected)}, seen ${text(seen)}`;
  console.log(`${ok ? '  ok  ' : 'FAILED'}  ${name.padEnd(44)} ${time.padStart(8)}  ${what}`);
}
