/** The explorer as others call it: a program by name, a way to search, and what came of it. */
import { CLASSICS } from './classics/index.ts';
import { DporSearch } from './dpor.ts';
import { lockCycleBug } from './lock-witness.ts';
import { minimise } from './minimise.ts';
import { applyMutant, findMutant } from './mutants/index.ts';
import { PRODUCT_PROGRAMS } from './product/index.ts';
import type { Program, ProgramFamily } from './program.ts';
import { type ShownRun, show } from './schedule.ts';
import type { Search } from './search.ts';
import { DfsSearch, SamplingSearch } from './walk.ts';

export const ALGORITHMS = ['optimal', 'source', 'dfs', 'pct', 'pos', 'random'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

export interface ExploreOptions {
  /** `name` or `name:size`, as `listScenarios` has them. */
  scenario: string;
  algorithm?: Algorithm;
  /** A mutant by its name: a known bug put back for this search. */
  mutant?: string;
  /** Only orders with at most so many preemptions, depth first. */
  bound?: number;
  /** For pct, pos and random. */
  seed?: number;
  /** Stop after so many executions. Sampling searches stop after 10,000 where none is given. */
  max?: number;
  /** Called about every half second. */
  onProgress?: (progress: { executions: number; seconds: number; done: number }) => void;
}

export interface FoundBug {
  invariant: string;
  message: string;
  /** Labels of the tasks in the order of their steps. */
  schedule: string[];
  preemptions: number;
  /** The same by number, for replay files. */
  steps: number[];
}

export interface ExploreResult {
  scenario: string;
  algorithm: Algorithm;
  mutant: string | null;
  executions: number;
  blocked: number;
  steps: number;
  seconds: number;
  complete: boolean;
  bug: FoundBug | null;
}

/** There is no scenario, size or mutant of that name; the message lists what there is. */
export class UnknownNameError extends Error {}

const FAMILIES: readonly ProgramFamily[] = [...PRODUCT_PROGRAMS, ...CLASSICS];

export function listScenarios(): { name: string; summary: string; isClassic: boolean }[] {
  return FAMILIES.map(({ name, summary, sizes, isClassic }) => ({
    name: sizes === null || !isClassic ? name : `${name}:${sizes.usual}`,
    summary: sizes === null || isClassic ? summary : `${summary} (:${sizes.min} to :${sizes.max})`,
    isClassic,
  }));
}

/** UnknownNameError where there is no such program, or not of that size. */
export function findProgram(scenario: string): Program {
  const [name, size] = scenario.split(':');
  const family = FAMILIES.find((one) => one.name === name);
  if (family === undefined) throw new UnknownNameError(`there is no scenario ${name}; barter scenarios lists them`);
  if (family.sizes === null) {
    if (size !== undefined) throw new UnknownNameError(`${name} takes no size`);
    return family.make(0);
  }
  const { min, max, usual } = family.sizes;
  const count = size === undefined ? usual : Number(size);
  if (!Number.isInteger(count) || count < min || count > max) {
    throw new UnknownNameError(`${scenario}: the size must be ${min} to ${max}`);
  }
  return family.make(count);
}

function makeSearch(program: Program, options: ExploreOptions): Search {
  const algorithm = options.algorithm ?? 'optimal';
  if (options.bound !== undefined) return new DfsSearch(program, options.bound);
  switch (algorithm) {
    case 'optimal':
    case 'source':
      return new DporSearch(program, algorithm === 'optimal');
    case 'dfs':
      return new DfsSearch(program);
    default:
      return new SamplingSearch(program, algorithm, options.seed ?? 1);
  }
}

/** Searches until everything was seen, a bug is found, or `max` executions were run. */
export async function explore(options: ExploreOptions): Promise<ExploreResult> {
  const undo = options.mutant === undefined ? null : applyMutant(findMutant(options.mutant));
  try {
    return await exploreProgram(findProgram(options.scenario), options);
  } finally {
    undo?.();
  }
}

export async function exploreProgram(program: Program, options: ExploreOptions): Promise<ExploreResult> {
  const start = performance.now();
  const search = makeSearch(program, options);
  const isSampling = ['pct', 'pos', 'random'].includes(options.algorithm ?? 'optimal') && options.bound === undefined;
  const max = options.max ?? (isSampling ? 10_000 : Number.POSITIVE_INFINITY);
  let shown = start;
  for (;;) {
    const left = max - search.totals.executions;
    if (left <= 0 || !search.advance(Math.min(200, left))) break;
    const now = performance.now();
    if (now - shown > 500) {
      shown = now;
      const seconds = (now - start) / 1000;
      options.onProgress?.({ executions: search.totals.executions, seconds, done: search.estimate() });
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const seconds = (performance.now() - start) / 1000;
  return {
    scenario: program.name,
    algorithm: options.algorithm ?? 'optimal',
    mutant: options.mutant ?? null,
    ...search.totals,
    seconds,
    complete: search.complete,
    bug: describeBug(program, search),
  };
}

function describeBug(program: Program, search: Search): FoundBug | null {
  const bug = search.bug === null ? lockCycleBug(program, search.lockOrder) : minimise(program, search.bug);
  if (bug === null) return null;
  const run = show(program, bug.schedule);
  return {
    invariant: bug.invariant,
    // Shown again it may say more: the lines, where the search knows only the steps.
    message: run.finding?.message ?? bug.message,
    schedule: run.steps.map((step) => step.task),
    preemptions: run.preemptions,
    steps: bug.schedule,
  };
}

/** What `barter explore` writes when it finds something, and `barter replay` reads. */
export interface ReplayFile {
  barter: 'replay';
  scenario: string;
  mutant: string | null;
  steps: number[];
  /** Of the run that the steps gave (`ShownRun.hash`). */
  hash: string;
}

export function replayFileOf(result: ExploreResult): ReplayFile | null {
  if (result.bug === null || result.bug.steps.length === 0) return null;
  const { scenario, mutant, bug } = result;
  return { barter: 'replay', scenario, mutant, steps: bug.steps, hash: runOf(scenario, mutant, bug.steps).hash };
}

/** Runs a schedule of a scenario, with a mutant or without, and writes down each step. */
export function runOf(scenario: string, mutant: string | null, steps: readonly number[]): ShownRun {
  const undo = mutant === null ? null : applyMutant(findMutant(mutant));
  try {
    return show(findProgram(scenario), steps);
  } finally {
    undo?.();
  }
}

/** Runs a replay file again. `matches` says whether each step and the outcome were those of the file. */
export function replay(file: ReplayFile): { run: ShownRun; matches: boolean } {
  const run = runOf(file.scenario, file.mutant, file.steps);
  return { run, matches: run.hash === file.hash };
}
