/** The explorer's interface: takes a program by name and a way to search, and returns the result. */

import { applyMutantOf, type Catalogue } from './catalogue.ts';
import { findUnlike } from './checks/alike.ts';
import { findDifference } from './checks/determinism.ts';
import { lockCycleBug } from './checks/lock-witness.ts';
import { type ResumeFile, restoreSearch, resumeFileOf } from './parallel/resume.ts';
import { type ThreadProgress, WorkerPool } from './parallel/worker-pool.ts';
import { Estimator } from './search/estimate.ts';
import { minimise } from './search/minimise.ts';
import type { Bug, Search } from './search/search.ts';
import { type Algorithm, makeSearch, type SearchSpec } from './spec.ts';
import type { Program } from './world/program.ts';
import { show } from './world/schedule.ts';
import { withoutStacks } from './world/stacks.ts';

/** The program to search, and how to search it. */
export interface ExploreOptions {
  /** `name` or `name:size`, or `FILE` or `FILE:NAME`, as `Catalogue.findProgram` takes them. */
  scenario: string;
  /** The way to search. Default: `optimal`. */
  algorithm?: Algorithm;
  /** The name of a mutant: a known bug put back for this search. */
  mutant?: string;
  /** Searches only orders with at most this many preemptions, depth first. */
  bound?: number;
  /** For pct, pos and random. */
  seed?: number;
  /** Stops after this many executions. By default sampling searches stop after 10,000. */
  max?: number;
  /** A run with more steps counts as endless: a livelock, or work without an end. 20,000 by default. */
  maxSteps?: number;
  /** Whether to take every order of tasks that the program declares alike. Default: one of those that are the same. */
  everyOrder?: boolean;
  /** How many threads search, this one included. The result does not depend on it. */
  workers?: number;
  /** Continues a stopped search with the same options, except for `max` and `workers`. */
  resume?: ResumeFile;
  /** Stops the search. The result then contains the data to continue it. */
  signal?: AbortSignal;
  /** Called about every half second. */
  onProgress?: (progress: ExploreProgress) => void;
  /** Called about every half minute with the data to continue from there. */
  onSave?: (file: ResumeFile) => void;
}

/** How far a search has come. */
export interface ExploreProgress {
  /** Executions so far. */
  executions: number;
  /** Runs that were cut off because they repeat others. */
  blocked: number;
  /** Of all runs. */
  steps: number;
  /** The expected total of executions: an estimate by random probes, or by the share that is done. */
  total: number;
  /** Seconds so far. */
  seconds: number;
  /** The share that is done, from 0 to 1, as far as it is known. */
  done: number;
  /** How many steps from the start the search is now; null for searches without a place. */
  depth: number | null;
  /** The other threads that search. */
  threads: readonly ThreadProgress[];
}

/** A broken rule, with the schedule that breaks it. */
export interface FoundBug {
  /** I1 to I10 of docs/invariants.md, `race` for a data race, or `error` for a task that threw. */
  invariant: string;
  /** One sentence that says what is wrong. */
  message: string;
  /** Labels of the tasks in the order of their steps. */
  schedule: string[];
  /** How often the schedule leaves a task that could have gone on. */
  preemptions: number;
  /** The same schedule by numbers, for replay files. */
  steps: number[];
}

/** The outcome of a search. */
export interface ExploreResult {
  /** The program, as the options name it. */
  scenario: string;
  /** The way in which it was searched. */
  algorithm: Algorithm;
  /** The mutant of the search; null without one. */
  mutant: string | null;
  /** Complete runs: each stands for a class of orders that cannot be told apart. */
  executions: number;
  /** Runs that were given up because they could only repeat others. */
  blocked: number;
  /** Steps of all runs together. */
  steps: number;
  /**
   * For `stateful`: how many states there were. The executions then do not stand for equivalence classes. Otherwise
   * null.
   */
  states: number | null;
  /** Seconds that the search took. */
  seconds: number;
  /** Whether every order was tried. False after a bug, a limit, or a stop. */
  complete: boolean;
  /** The first bug, by its shortest schedule; null where none was found. */
  bug: FoundBug | null;
  /** The data to continue the search; null if nothing is left. */
  resume: ResumeFile | null;
}

const PROGRESS_MS = 500;
const SAVE_MS = 30_000;
/** How long random probes look for the size of a search before it starts, and at each report of its progress. */
const FIRST_PROBES_MS = 200;
const PROBES_MS = 25;
const MOST_PROBES = 3000;
/** How long a search runs before it yields to other events. */
const SLICE_MS = 5;

/** Searches until the search is complete, a bug is found, or `max` executions were run. */
export async function explore(options: ExploreOptions, catalogue: Catalogue): Promise<ExploreResult> {
  const { scenario } = options.resume?.spec ?? options;
  await catalogue.loadPrograms(scenario);
  const spec = options.resume?.spec ?? specOf(options);
  const program = catalogue.findProgram(scenario);
  const undo = applyMutantOf(catalogue, spec);
  try {
    return await new Exploration(program, spec, options, catalogue).run();
  } finally {
    undo();
  }
}

/** Like `explore`, for a program without a name that other threads could use. */
export function exploreProgram(
  program: Program,
  options: Omit<ExploreOptions, 'scenario' | 'workers' | 'mutant'> = {},
) {
  const spec = options.resume?.spec ?? specOf({ ...options, scenario: program.name });
  return new Exploration(program, spec, options).run();
}

export function specOf(options: ExploreOptions): SearchSpec {
  const { scenario, algorithm, mutant, bound, seed, max, maxSteps, everyOrder } = options;
  return {
    scenario,
    algorithm: algorithm ?? 'optimal',
    mutant: mutant ?? null,
    bound: bound ?? null,
    seed: seed ?? 1,
    samples: max ?? 10_000,
    ...(maxSteps === undefined ? {} : { maxSteps }),
    ...(everyOrder === true ? { everyOrder } : {}),
  };
}

/** One search with its progress reports, saves and worker threads. */
class Exploration {
  private readonly program: Program;
  private readonly spec: SearchSpec;
  private readonly options: Omit<ExploreOptions, 'scenario'>;
  private readonly search: Search;
  private readonly estimator: Estimator | null;
  private readonly pool: WorkerPool | null;
  private readonly max: number;
  private readonly start: number;
  private shown: number;
  private saved: number;
  private slice = 1;

  /** More than one worker needs `catalogue`. */
  constructor(program: Program, spec: SearchSpec, options: Omit<ExploreOptions, 'scenario'>, catalogue?: Catalogue) {
    const { workers = 1, max = Number.POSITIVE_INFINITY, resume } = options;
    this.program = program;
    this.spec = spec;
    this.options = options;
    this.max = max;
    this.search = makeSearch(program, spec);
    this.estimator = isEstimated(spec) ? new Estimator(program, this.search.oneOfAlike) : null;
    if (resume !== undefined) restoreSearch(this.search, resume);
    this.pool =
      workers > 1 && catalogue !== undefined
        ? new WorkerPool(this.search, program, spec, catalogue.url, workers)
        : null;
    this.shown = performance.now();
    this.saved = this.shown;
    this.start = this.shown - (resume?.seconds ?? 0) * 1000;
  }

  async run(): Promise<ExploreResult> {
    try {
      if (this.options.resume === undefined) this.checkProgram();
      if (!this.isOver()) await this.reportProgress(FIRST_PROBES_MS);
      while (!this.isOver()) {
        await this.goOn();
        await this.pollProgress();
      }
    } finally {
      await this.pool?.end();
    }
    const { search, program, spec, seconds } = this;
    const isOver = search.complete || search.bug !== null || this.samplesExhausted || !search.canBeSaved;
    const resume = isOver ? null : resumeFileOf(search, spec, seconds);
    const { scenario, algorithm, mutant } = spec;
    const { totals, states, complete } = search;
    const bug = describeBug(program, search);
    return { scenario, algorithm, mutant, ...totals, states, seconds, complete, bug, resume };
  }

  /** Runs the first schedule twice before the search starts, and exchanges tasks that are declared alike. */
  private checkProgram(): void {
    const difference = findDifference(this.program) ?? (this.search.oneOfAlike ? findUnlike(this.program) : null);
    if (difference !== null) this.search.bug = { ...difference.finding, schedule: difference.schedule };
  }

  private samplesExhausted = false;

  private get seconds(): number {
    return (performance.now() - this.start) / 1000;
  }

  private get left(): number {
    return this.max - this.search.totals.executions;
  }

  private isOver(): boolean {
    const { search, options } = this;
    return (
      search.complete ||
      search.bug !== null ||
      this.samplesExhausted ||
      this.left <= 0 ||
      options.signal?.aborted === true
    );
  }

  /** Runs the search for a short while, or joins the result of a part. */
  private async goOn(): Promise<void> {
    const { search, pool } = this;
    pool?.feed();
    const before = performance.now();
    const progress = withoutStacks(() => search.advance(Math.min(this.slice, this.left)));
    if (progress === 'done') this.samplesExhausted = !search.complete && search.bug === null;
    if (progress !== 'waits') {
      const ms = performance.now() - before;
      this.slice = Math.max(1, Math.min(500, Math.round(this.slice * Math.min(2, SLICE_MS / ms))));
      return;
    }
    const outcome = await pool!.awaitPart();
    if (outcome.totals.executions > this.left) search.reclaimPart();
    else search.join(outcome);
  }

  /** Tells how far the search is, after random probes of its size for about `ms`. */
  private async reportProgress(ms: number): Promise<void> {
    const { options, search, estimator } = this;
    if (options.onProgress === undefined) return;
    const { totals, currentDepth: depth } = search;
    const { executions } = totals;
    if (estimator !== null && estimator.probes < MOST_PROBES) {
      withoutStacks(() => estimator.probeFor(ms, MOST_PROBES - estimator.probes));
    }
    const orders = Math.round(estimator?.orders ?? 0);
    // Probes that saw less than the search has done say nothing more.
    const isKnown = orders > executions;
    const done = isKnown ? executions / orders : search.estimate();
    const total = isKnown ? orders : expectedTotal(executions, done);
    const threads = this.pool?.progress() ?? [];
    options.onProgress({ ...totals, total, seconds: this.seconds, done, depth, threads });
    await new Promise((resolve) => setImmediate(resolve));
  }

  private async pollProgress(): Promise<void> {
    const { options, search } = this;
    const now = performance.now();
    if (this.pool !== null || options.signal !== undefined) await new Promise((resolve) => setImmediate(resolve));
    if (now - this.shown > PROGRESS_MS) {
      this.shown = now;
      await this.reportProgress(PROBES_MS);
    }
    if (now - this.saved > SAVE_MS && search.canBeSaved && !this.isOver()) {
      this.saved = now;
      options.onSave?.(resumeFileOf(search, this.spec, this.seconds));
    }
  }
}

/** Whether a search takes one order of each class, so that `Estimator` tells how many. */
function isEstimated({ algorithm, bound }: SearchSpec): boolean {
  return bound === null && (algorithm === 'optimal' || algorithm === 'source');
}

/** The expected total of executions, for a search whose share `done` took `executions`; 0 before the first share. */
export function expectedTotal(executions: number, done: number): number {
  return done > 0 ? Math.round(executions / done) : 0;
}

/** Findings about the program itself: another schedule would not show them. */
const ABOUT_PROGRAMS: readonly string[] = ['determinism', 'symmetry'];

/** The bug of a search with the fewest preemptions, or a cycle of its locks; null if there is none. */
export function describeBug(program: Program, search: Pick<Search, 'bug' | 'lockOrder'>): FoundBug | null {
  if (search.bug !== null && ABOUT_PROGRAMS.includes(search.bug.invariant)) {
    return describe(program, search.bug, search.bug.message);
  }
  if (search.bug?.isEndless === true) return describe(program, search.bug, search.bug.message);
  const bug = search.bug === null ? lockCycleBug(program, search.lockOrder) : minimise(program, search.bug);
  if (bug === null) return null;
  const { finding } = show(program, bug.schedule, { stacks: false });
  if (search.bug === null || finding?.invariant === bug.invariant) return describe(program, bug);
  const again = finding === null ? 'nothing' : `${finding.invariant} (${finding.message})`;
  const message = `the program is not deterministic: one schedule broke ${bug.invariant} (${bug.message}), and ${again}`;
  return describe(program, { ...bug, invariant: 'determinism' }, `${message} when it was taken again`);
}

function describe(program: Program, bug: Bug, message?: string): FoundBug {
  const run = show(program, bug.schedule);
  return {
    invariant: bug.invariant,
    // A second run may say more: it knows source lines, and the search only steps.
    message: message ?? run.finding?.message ?? bug.message,
    schedule: run.steps.map((step) => step.task),
    preemptions: run.preemptions,
    steps: bug.schedule,
  };
}
