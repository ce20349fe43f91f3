/**
 * barter lab diff: the same steps on the engine and on the kernel of the guest, compared result by result. On each
 * lender: the scenarios of its machine that are kept, then random programs.
 */

import { resolve } from 'node:path';
import fc from 'fast-check';
import { isIoasStep } from '../../src/scenario/ioas-steps.ts';
import type { Step } from '../../src/scenario/step.ts';
import type { KernelReport } from '../kernel-reports.ts';
import { Bench, type Compared, type GuestChoice } from './bench.ts';
import { type Difference, differences, runOnEngine } from './compare.ts';
import { type Lender, lendersOf } from './lenders.ts';
import { matrixProgram, Shortest, sequences, stages, triggers, violations } from './matrix.ts';
import { programs } from './program.ts';
import { ioasPrograms } from './program-ioas.ts';
import { facts, findings, type KeptScenario } from './suites.ts';

const MOST_STEPS = 40;
/** Of one lender; more of the same kind tell nothing new. */
const MOST_DIFFERENCES = 10;

export interface DiffOptions extends GuestChoice {
  seed: number;
  /** Of random programs, over all lenders together. */
  steps: number;
  lenders: readonly string[];
  /** Every trigger after every other, too. */
  matrix: boolean;
  /** Hears how many steps are done. */
  onProgress: (lender: string, steps: number, differences: number) => void;
}

export interface FoundDifference extends Difference {
  lender: string;
  /**
   * The file of the finding that this difference is: the kernel's answer is known to be wrong, and the engine's is
   * that of the default profile. Null for a difference that nobody knows, between the kernel and the profile that
   * should behave as it does.
   */
  finding: string | null;
  /** The shortest program that was found to differ. */
  program: Step[];
}

export interface DiffResult {
  seed: number;
  kernel: string;
  steps: number;
  agree: number;
  programs: number;
  differences: FoundDifference[];
  /** What the matrix found the kernel to break, each with the fewest triggers. */
  violations: { lender: string; invariant: string; message: string; triggers: string[] }[];
  /** What the kernel complained of meanwhile. */
  reports: KernelReport[];
}

export async function labDiff(options: DiffOptions): Promise<DiffResult> {
  const { seed } = options;
  const result: DiffResult = {
    seed,
    kernel: '',
    steps: 0,
    agree: 0,
    programs: 0,
    differences: [],
    violations: [],
    reports: [],
  };
  const lenders = lendersOf(options.kernel).filter((lender) => options.lenders.includes(lender.name));
  for (const [i, lender] of lenders.entries()) {
    const bench = await Bench.start(lender, { kernel: options.kernel, leakCheck: options.leakCheck });
    try {
      result.kernel = bench.kernel;
      const isOwn = (kept: KeptScenario) => belongsTo(lender, kept);
      for (const kept of facts().filter(isOwn)) await compareOne(bench, options, kept.scenario.tasks.user, result);
      for (const kept of findings().filter(isOwn)) await compareFinding(bench, options, kept, result);
      if (options.matrix) await compareMatrix(bench, options, result);
      await compareRandom(bench, options, Math.ceil(options.steps / lenders.length), options.seed + i, result);
    } finally {
      result.reports.push(...(await bench.stop()));
    }
  }
  return result;
}

/** A scenario runs on the lender whose machine it has, and with address spaces where devices are opened for them. */
function belongsTo({ machine, ioas = false }: Lender, { machinePath, scenario }: KeptScenario): boolean {
  return resolve(machinePath) === machine && scenario.tasks.user.some(isIoasStep) === ioas;
}

async function compareMatrix(bench: Bench, options: DiffOptions, result: DiffResult): Promise<void> {
  const [device] = bench.lender.devices;
  const shortest = new Shortest();
  const lives = stages(device);
  // Each pair in one stage: the engine, which answers as the kernel does, goes through all of them in its test.
  for (const [i, sequence] of sequences(triggers(device), 2).entries()) {
    const asked = matrixProgram(device, sequence, lives[i % lives.length]);
    const { program, kernel } = await compareOne(bench, options, asked, result);
    if (kernel === null) continue;
    for (const violation of violations(program, kernel)) shortest.add(violation, sequence);
  }
  const lender = bench.lender.name;
  result.violations.push(...shortest.list().map(({ violation, triggers }) => ({ lender, ...violation, triggers })));
}

/** One value after the other of the same seed: a run can be repeated, and a longer one begins with it. */
async function compareRandom(
  bench: Bench,
  options: DiffOptions,
  wanted: number,
  seed: number,
  result: DiffResult,
): Promise<void> {
  const before = { steps: result.steps, unknown: unknown(result) };
  const { devices, ioas } = bench.lender;
  const arbitrary = ioas === true ? ioasPrograms(MOST_STEPS) : programs(devices, MOST_STEPS);
  for (const raw of fc.sample(arbitrary, { seed, numRuns: Math.ceil(wanted / 4) })) {
    if (result.steps - before.steps >= wanted || unknown(result) - before.unknown >= MOST_DIFFERENCES) break;
    await compareOne(bench, options, raw, result);
  }
}

function unknown({ differences }: DiffResult): number {
  return differences.filter(({ finding }) => finding === null).length;
}

/** A program on the kernel and on the engine as it should behave like the kernel. */
async function compareOne(
  bench: Bench,
  { onProgress }: DiffOptions,
  raw: readonly Step[],
  result: DiffResult,
): Promise<Compared> {
  const compared = await bench.compare(raw);
  const { program, difference } = compared;
  result.steps += program.length;
  result.programs += 1;
  if (difference === null) result.agree += program.length;
  else {
    result.agree += difference.index;
    const shortest = await bench.shrink(program, difference);
    result.differences.push({ lender: bench.lender.name, finding: null, ...shortest });
  }
  onProgress(bench.lender.name, result.steps, unknown(result));
  return compared;
}

/** As `compareOne`; and the kernel against the default profile, which does what is right. */
async function compareFinding(
  bench: Bench,
  options: DiffOptions,
  { file, scenario }: KeptScenario,
  result: DiffResult,
): Promise<void> {
  const program = scenario.tasks.user;
  await compareOne(bench, options, program, result);
  const right = runOnEngine(bench.description, program, 'default');
  const found = differences(program, right, await bench.runOnKernel(program));
  result.steps += program.length;
  result.agree += program.length - found.length;
  for (const difference of found) {
    result.differences.push({
      lender: bench.lender.name,
      finding: file,
      ...difference,
      program: program.slice(0, difference.index + 1),
    });
  }
  if (found.length > 0) return;
  // What is said to be wrong with the kernel is right by now: the finding's file is what differs.
  const gone = {
    index: 0,
    op: 'the finding',
    engine: 'differs from the kernel',
    kernel: 'does as the default profile',
  };
  result.differences.push({ lender: bench.lender.name, finding: null, ...gone, program });
}
