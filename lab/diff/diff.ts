/**
 * barter lab diff: runs the same steps on the engine and on the guest's kernel and compares every result. On each
 * lender it runs the kept scenarios of its machine, then random programs.
 */

import { resolve } from 'node:path';
import { Random } from '../../src/explore/search/random.ts';
import { groupOf, type Step } from '../../src/scenario/step.ts';
import { type KernelReport, undocumented } from '../kernel/reports.ts';
import { type Difference, differences, runOnEngine } from './compare.ts';
import { canInjectErrors, type LenderSetup } from './lenders.ts';
import { type Matrix, Shortest } from './matrix.ts';
import { randomIoasProgram } from './program/ioas.ts';
import { randomProgram } from './program/program.ts';
import { type Compared, type GuestChoice, GuestRig } from './rig.ts';
import { FINDINGS, facts, findings, type KeptScenario } from './suites.ts';

const MAX_STEPS = 40;
/** The most differences reported for one lender. More of the same kind tell nothing new. */
const MAX_DIFFERENCES = 10;

export interface DiffOptions extends GuestChoice {
  seed: number;
  /** How many steps the random programs have, over all lenders together. */
  steps: number;
  lenders: readonly LenderSetup[];
  /** Whether the kept scenarios run too. */
  kept: boolean;
  /** Runs the programs of this matrix, too. Null runs none. */
  matrix: Matrix | null;
  /** Called with each program that was compared. */
  onCompared?: ((lender: string, compared: Compared) => void) | undefined;
  /** Called with the progress. */
  onProgress: (progress: DiffProgress) => void;
}

export interface DiffProgress {
  lender: string;
  steps: number;
  /** How many steps there will be, without the matrix. */
  ofSteps: number;
  differences: number;
  /** How many of the matrix's programs are done on this lender; null unless it runs. */
  matrix: { stage: string; done: number; of: number } | null;
}

export interface FoundDifference extends Difference {
  lender: string;
  /**
   * The file of the finding that explains this difference: the kernel's result is known to be wrong, and the engine's
   * is that of the default profile. Null for an unexplained difference between the kernel and the profile that models
   * it.
   */
  finding: string | null;
  /** The shortest program with this difference that shrinking found. */
  program: Step[];
}

/** The result of one stage of the matrix. */
interface MatrixStage {
  lender: string;
  stage: string;
  programs: number;
  steps: number;
  agree: number;
  /** Programs in which the kernel breaks an invariant. */
  breaks: number;
}

export interface DiffResult {
  /** True if docs/kernel-findings.md describes every difference, violation and report. */
  ok: boolean;
  seed: number;
  kernel: string;
  lenders: string[];
  steps: number;
  agree: number;
  programs: number;
  differences: FoundDifference[];
  matrix: MatrixStage[];
  /** The invariants that the kernel breaks in the matrix, each with the fewest triggers and its finding. */
  violations: { lender: string; invariant: string; message: string; triggers: string[]; finding: string | null }[];
  /** The kernel's reports during the run. */
  reports: KernelReport[];
}

export async function labDiff(options: DiffOptions): Promise<DiffResult> {
  const { seed, lenders } = options;
  const none = { steps: 0, agree: 0, programs: 0, differences: [], matrix: [], violations: [], reports: [] };
  const result: DiffResult = { ok: false, seed, kernel: '', lenders: lenders.map(({ name }) => name), ...none };
  const total = totalSteps(options);
  const counted: DiffOptions = {
    ...options,
    onProgress: (progress) => options.onProgress({ ...progress, ofSteps: total }),
  };
  for (const [i, lender] of lenders.entries()) {
    const rig = await GuestRig.start(lender, {
      kernel: options.kernel,
      accel: options.accel,
      leakCheck: options.leakCheck,
      onConsole: options.onConsole,
    });
    try {
      result.kernel = rig.kernel;
      const isOwn = (kept: KeptScenario) => belongsTo(lender, kept) && isPossible(lender, kept, options);
      if (options.kept) {
        for (const kept of facts().filter(isOwn)) await compareOne(rig, counted, kept.scenario.tasks.user, result);
        for (const kept of findings().filter(isOwn)) await compareFinding(rig, counted, kept, result);
      }
      if (options.matrix !== null) await compareMatrix(rig, counted, options.matrix, result);
      await compareRandom(rig, counted, Math.ceil(options.steps / lenders.length), options.seed + i, result);
    } finally {
      result.reports.push(...(await rig.stop()));
    }
  }
  const found = [...result.differences, ...result.violations].filter(({ finding }) => finding === null);
  result.ok = found.length + undocumented(result.reports).length === 0;
  return result;
}

/** The steps of the kept scenarios, each finding counted twice, and of the random programs. */
function totalSteps({ lenders, steps, kept: hasKept }: DiffOptions): number {
  if (!hasKept) return steps;
  const count = (kept: readonly KeptScenario[], lender: LenderSetup): number =>
    kept.filter((each) => belongsTo(lender, each)).reduce((sum, each) => sum + each.scenario.tasks.user.length, 0);
  return lenders.reduce((sum, lender) => sum + count(facts(), lender) + 2 * count(findings(), lender), steps);
}

/** Whether a scenario runs on a lender: its machine matches, and so does its use of address spaces. */
function belongsTo({ machine, ioas = false }: LenderSetup, { machinePath, scenario }: KeptScenario): boolean {
  return resolve(machinePath) === machine && scenario.tasks.user.some((step) => groupOf(step) === 'ioas') === ioas;
}

function isPossible(lender: LenderSetup, { scenario }: KeptScenario, { kernel }: DiffOptions): boolean {
  return canInjectErrors(lender, kernel) || !scenario.tasks.user.some(({ op }) => op === 'aer-inject');
}

async function compareMatrix(rig: GuestRig, options: DiffOptions, matrix: Matrix, result: DiffResult): Promise<void> {
  const lender = rig.lender.name;
  const shortest = new Shortest();
  const entries = matrix.entries(rig.lender.devices, rig.description, canInjectErrors(rig.lender, options.kernel));
  for (const [done, entry] of entries.entries()) {
    const { stage, sequence, program: asked } = entry;
    const progress = { stage, done, of: entries.length };
    const { steps, agree } = result;
    const { program, kernel } = await compareOne(rig, options, asked, result, progress);
    const broken = kernel === null ? [] : matrix.violations(entry, program, kernel);
    for (const violation of broken) shortest.add(violation, sequence);
    const row = rowOf(result, lender, stage);
    row.programs += 1;
    row.steps += result.steps - steps;
    row.agree += result.agree - agree;
    row.breaks += broken.length > 0 ? 1 : 0;
  }
  for (const { violation, triggers } of shortest.list()) {
    const file = matrix.findingOf(violation, triggers);
    const finding = file === null ? null : `${FINDINGS}/${file}`;
    result.violations.push({ lender, ...violation, triggers, finding });
  }
}

function rowOf({ matrix }: DiffResult, lender: string, stage: string): MatrixStage {
  const known = matrix.find((row) => row.lender === lender && row.stage === stage);
  if (known !== undefined) return known;
  const row = { lender, stage, programs: 0, steps: 0, agree: 0, breaks: 0 };
  matrix.push(row);
  return row;
}

/** Draws all programs from one seed, so that a run can be repeated and a longer run starts with the same programs. */
async function compareRandom(
  rig: GuestRig,
  options: DiffOptions,
  wanted: number,
  seed: number,
  result: DiffResult,
): Promise<void> {
  const before = { steps: result.steps, unknown: unknown(result) };
  const { devices, ioas } = rig.lender;
  const random = new Random(seed);
  while (result.steps - before.steps < wanted && unknown(result) - before.unknown < MAX_DIFFERENCES) {
    const raw = ioas === true ? randomIoasProgram(random, MAX_STEPS) : randomProgram(random, devices, MAX_STEPS);
    await compareOne(rig, options, raw, result);
  }
}

function unknown({ differences }: DiffResult): number {
  return differences.filter(({ finding }) => finding === null).length;
}

/** Compares the kernel with the engine in the profile that models this kernel. */
async function compareOne(
  rig: GuestRig,
  { onProgress, onCompared }: DiffOptions,
  raw: readonly Step[],
  result: DiffResult,
  matrix: DiffProgress['matrix'] = null,
): Promise<Compared> {
  const compared = await rig.compare(raw);
  const { program, difference } = compared;
  onCompared?.(rig.lender.name, compared);
  result.steps += program.length;
  result.programs += 1;
  if (difference === null) result.agree += program.length;
  else {
    result.agree += difference.index;
    const shortest = await rig.shrink(program, difference);
    result.differences.push({ lender: rig.lender.name, finding: null, ...shortest });
  }
  onProgress({ lender: rig.lender.name, steps: result.steps, ofSteps: 0, differences: unknown(result), matrix });
  return compared;
}

/** As `compareOne`, and also compares the kernel with the default profile, which behaves correctly. */
async function compareFinding(
  rig: GuestRig,
  options: DiffOptions,
  { file, scenario }: KeptScenario,
  result: DiffResult,
): Promise<void> {
  const program = scenario.tasks.user;
  await compareOne(rig, options, program, result);
  const right = runOnEngine(rig.description, program, 'default');
  const found = differences(program, right, await rig.runOnKernel(program));
  result.steps += program.length;
  result.agree += program.length - found.length;
  for (const difference of found) {
    result.differences.push({
      lender: rig.lender.name,
      finding: file,
      ...difference,
      program: program.slice(0, difference.index + 1),
    });
  }
  // A finding without a differing result shows only in a kernel report (`documented`).
  if (found.length > 0 || !program.some((step) => 'linux' in step)) return;
  // The kernel no longer has the bug of this finding, so the finding's file is the difference.
  const gone = {
    index: 0,
    op: 'the finding',
    engine: 'differs from the kernel',
    kernel: 'does as the default profile',
  };
  result.differences.push({ lender: rig.lender.name, finding: null, ...gone, program });
}
