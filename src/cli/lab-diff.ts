/** barter lab diff: the same steps on the engine and on the guest's kernel. */
import type { Command } from 'commander';
import { type DiffProgress, type DiffResult, labDiff } from '../../lab/diff/diff.ts';
import { HOLDERS } from '../../lab/diff/holders.ts';
import { lendersOf } from '../../lab/diff/lenders.ts';
import { type Matrix, STAGES, triggerMatrix } from '../../lab/diff/matrix.ts';
import { SIDE_DOORS } from '../../lab/diff/side-doors.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { describeStep } from '../scenario/run.ts';
import { addHttpOption, httpAddress, keepPage } from './http-option.ts';
import {
  addRigOptions,
  demandLeakCheck,
  KERNEL_HELP,
  LEAK_CHECK_OPTION,
  numberOption,
  type RigOptions,
  reported,
  takeRig,
} from './lab-options.ts';
import { LabPage } from './lab-page.ts';
import { printReports } from './lab-reports.ts';
import { addReportOption, isQuiet, type ReportOptions, reportSuites } from './report-option.ts';
import { diffSuites } from './suites.ts';
import { UsageError } from './usage.ts';

interface DiffCommandOptions extends RigOptions, ReportOptions {
  json?: true;
  leakCheck?: true;
  steps?: number;
  seed?: number;
  http?: string;
  lender?: string;
  /** True if no stages are named. */
  matrix?: true | string;
}

const STEPS = 5000;

export function addDiffCommand(lab: Command): void {
  const command = lab
    .command('diff')
    .description('scenarios and random programs on the engine and on the kernel, compared step by step')
    .option('--steps <n>', `how many steps of random programs, over all lenders (default: ${STEPS})`, numberOption)
    .option('--seed <n>', 'which programs (printed; the same seed gives the same)', numberOption)
    .option('--leak-check', LEAK_CHECK_OPTION)
    .option('--matrix [stages]', 'every trigger after every other, too, and what the kernel breaks there')
    .option(
      '--lender <names>',
      `which devices lend: ${lendersOf({ hasIommufd: true })
        .map(({ name }) => name)
        .join(', ')}`,
    )
    .option('--json', 'print one JSON document');
  addHttpOption(command, "show the guest's console and the programs on a live page");
  addRigOptions(addReportOption(command))
    .addHelpText(
      'after',
      `
First come the scenarios that are kept (lab/facts, lab/findings), then random programs. Each difference
is shrunk to a short program. Exits with 1 if docs/kernel-findings.md does not describe one of them.

--matrix takes every trigger after every other with a buffer that is in one of the stages of its life, going round:
about 6 minutes a lender. --matrix all takes each pair in each stage, --matrix STAGE,... in these: 5 minutes a stage.
The stages: ${STAGES.join(', ')}.
--matrix side-doors tries what root does from outside, in each state of the lender: about 7 minutes a lender.
--matrix holders has a buffer in every form in which a process holds one. Both run nothing else unless --steps is given.
${KERNEL_HELP}

Examples:
  barter lab diff
  barter lab diff --kernel debug --steps 500
  barter lab diff --lender barter --steps 0 --matrix
  barter lab diff --lender passthrough --steps 0 --matrix exported,attached
  barter lab diff --lender barter,igb --steps 500 --seed 7 --json`,
    )
    .action((options: DiffCommandOptions) => reported(() => diff(options)));
}

async function diff(options: DiffCommandOptions): Promise<void> {
  const { seed = Date.now() % 2 ** 31, lender, matrix, leakCheck, json } = options;
  httpAddress(options.http);
  const wanted = findKernel(options.kernel, options.modules ?? null);
  demandLeakCheck(wanted, leakCheck);
  const known = lendersOf(wanted);
  const names = known.map(({ name }) => name);
  const chosen = lender === undefined ? names : listed(lender, names, 'lender', ` with the kernel ${wanted.name}`);
  const named = typeof matrix === 'string' ? MATRICES.get(matrix) : undefined;
  const matrixOf = matrix === undefined ? null : (named ?? triggerMatrix(stagesOf(matrix)));
  const { kernel, accel } = await takeRig(options);
  const page = await LabPage.open(options.http, 'barter lab diff');
  const progress = new ProgressLine();
  const result = await labDiff({
    seed,
    steps: options.steps ?? (named === undefined ? STEPS : 0),
    lenders: known.filter(({ name }) => chosen.includes(name)),
    kernel,
    accel,
    leakCheck: leakCheck === true,
    kept: named === undefined,
    matrix: matrixOf,
    onConsole: page?.onConsole,
    onCompared: (of, compared) => page?.compared(of, compared),
    onProgress: (done) => {
      progress.show(done);
      page?.progress(done);
    },
  });
  progress.clear();
  if (!result.ok) process.exitCode = 1;
  await reportSuites(options, 'barter lab diff', diffSuites(result), result.reports);
  if (json === true) console.log(JSON.stringify(result));
  else if (!isQuiet(options)) printDiff(result);
  const { programs, agree } = result;
  page?.ended(result.ok, `${programs} programs, ${result.steps} steps, ${agree} agree (Linux ${result.kernel})`);
  await keepPage(page?.page ?? null);
}

/** The matrices with a name of their own. */
const MATRICES: ReadonlyMap<string, Matrix> = new Map([
  ['side-doors', SIDE_DOORS],
  ['holders', HOLDERS],
]);

function stagesOf(matrix: true | string): readonly string[] {
  if (matrix === true) return [];
  const others = `; --matrix also takes one of: all, ${[...MATRICES.keys()].join(', ')}`;
  return matrix === 'all' ? STAGES : listed(matrix, STAGES, 'stage', '', others);
}

/** The names of a list with commas. UsageError for an unknown name. */
function listed(text: string, known: readonly string[], kind: string, where = '', others = ''): string[] {
  const names = text.split(',');
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no ${kind} ${unknown}${where}; there are: ${known.join(', ')}${others}`);
  }
  return names;
}

/** Prints the progress on stderr: continuously on a terminal, else once a minute. */
class ProgressLine {
  private shownMs = Date.now();
  /** The lender of the present matrix, and the time of its start. */
  private matrix = { lender: '', sinceMs: 0 };

  show({ lender, steps, ofSteps, differences, matrix }: DiffProgress): void {
    if (matrix !== null && this.matrix.lender !== lender) this.matrix = { lender, sinceMs: Date.now() };
    const { isTTY } = process.stderr;
    if (!isTTY && Date.now() - this.shownMs < 60_000) return;
    this.shownMs = Date.now();
    const text = `${lender}: ${steps} of ${ofSteps} steps, ${differences} differences${matrix === null ? '' : this.left(matrix)}`;
    process.stderr.write(isTTY ? `\r\x1b[K${text}` : `${text}\n`);
  }

  clear(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }

  private left({ stage, done, of }: NonNullable<DiffProgress['matrix']>): string {
    const minutes = ((Date.now() - this.matrix.sinceMs) / 60_000 / Math.max(done, 1)) * (of - done);
    return `; matrix, ${stage}: ${done} of ${of} programs, about ${Math.ceil(minutes)} min left`;
  }
}

/** Prints a line for each finding: the number of its steps that differ, and the lenders. */
function printKnown(differences: DiffResult['differences']): void {
  const known = new Set(differences.map(({ finding }) => finding).filter((finding) => finding !== null));
  for (const finding of known) {
    const steps = differences.filter((difference) => difference.finding === finding);
    const lenders = [...new Set(steps.map(({ lender }) => lender))].join(', ');
    console.log(`known as ${finding}, on ${lenders}: ${steps.length} steps differ`);
  }
}

function printDiff({
  seed,
  kernel,
  steps,
  agree,
  programs,
  differences,
  matrix,
  violations,
  reports,
}: DiffResult): void {
  for (const { lender, engine, kernel: theirs, program } of differences.filter(({ finding }) => finding === null)) {
    console.log(`\non ${lender}: the engine gives ${JSON.stringify(engine)}, the kernel ${JSON.stringify(theirs)}`);
    for (const step of program) console.log(`  ${describeStep(step)}`);
  }
  printKnown(differences);
  for (const { lender, invariant, message, triggers, finding } of violations) {
    const what = finding === null ? '' : ` (known as ${finding})`;
    console.log(`on ${lender}, after ${triggers.join(', ')}: ${invariant}, ${message}${what}`);
  }
  for (const row of matrix) {
    const counts = `${row.programs} programs, ${row.steps} steps, ${row.agree} agree`;
    console.log(`matrix on ${row.lender}, ${row.stage}: ${counts}; the kernel breaks an invariant in ${row.breaks}`);
  }
  printReports(reports);
  console.log(`\n${programs} programs, ${steps} steps, ${agree} agree (seed ${seed}, Linux ${kernel}).`);
}
