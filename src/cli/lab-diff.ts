/** barter lab diff: the same steps on the engine and on the guest's kernel. */
import { type DiffProgress, type DiffResult, labDiff } from '../../lab/diff/diff.ts';
import { lendersOf } from '../../lab/diff/lenders.ts';
import { STAGES } from '../../lab/diff/matrix.ts';
import type { KernelName } from '../../lab/kernel/kernels.ts';
import { describeStep } from '../scenario/run.ts';
import { prepareMissing } from './lab-prepare.ts';
import { printReports } from './lab-reports.ts';
import { UsageError } from './usage.ts';

export interface DiffCommandOptions {
  kernel: KernelName;
  leakCheck?: true;
  steps: number;
  seed?: number;
  lender?: string;
  /** True where no stages are named. */
  matrix?: true | string;
  json?: true;
}

export async function diff(options: DiffCommandOptions): Promise<void> {
  const { steps, seed = Date.now() % 2 ** 31, lender, matrix, kernel, leakCheck, json } = options;
  const known = lendersOf(kernel);
  const names = known.map(({ name }) => name);
  const chosen = lender === undefined ? names : listed(lender, names, 'lender', ` with the kernel ${kernel}`);
  const stages = typeof matrix !== 'string' ? [] : matrix === 'all' ? STAGES : listed(matrix, STAGES, 'stage');
  await prepareMissing(kernel, json === true);
  const progress = new ProgressLine();
  const result = await labDiff({
    seed,
    steps,
    lenders: known.filter(({ name }) => chosen.includes(name)),
    kernel,
    leakCheck: leakCheck === true,
    matrix: matrix === undefined ? null : stages,
    onProgress: (done) => progress.show(done),
  });
  progress.clear();
  if (!result.ok) process.exitCode = 1;
  if (json === true) console.log(JSON.stringify(result));
  else printDiff(result);
}

/** The names of a list with commas. UsageError for one that is not known. */
function listed(text: string, known: readonly string[], kind: string, where = ''): string[] {
  const names = text.split(',');
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no ${kind} ${unknown}${where}; there are: ${known.join(', ')}`);
  }
  return names;
}

/** How far it is, on stderr: over and over on a terminal, else once a minute. */
class ProgressLine {
  private shownMs = Date.now();
  /** When the matrix of a lender began. */
  private matrix = { lender: '', sinceMs: 0 };

  show({ lender, steps, differences, matrix }: DiffProgress): void {
    if (matrix !== null && this.matrix.lender !== lender) this.matrix = { lender, sinceMs: Date.now() };
    const { isTTY } = process.stderr;
    if (!isTTY && Date.now() - this.shownMs < 60_000) return;
    this.shownMs = Date.now();
    const text = `${lender}: ${steps} steps, ${differences} differences${matrix === null ? '' : this.left(matrix)}`;
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
  for (const { lender, engine, kernel: theirs, program, finding } of differences) {
    const what = finding === null ? '' : `known as ${finding}, `;
    console.log(
      `\n${what}on ${lender}: the engine gives ${JSON.stringify(engine)}, the kernel ${JSON.stringify(theirs)}`,
    );
    for (const step of program) console.log(`  ${describeStep(step)}`);
  }
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
