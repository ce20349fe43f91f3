/** The explorer as others call it: a program by name, a way to search, and what came of it. */

import { applyMutantOf, type Catalogue } from './catalogue.ts';
import { findDifference } from './checks/determinism.ts';
import { lockCycleBug } from './checks/lock-witness.ts';
import { type ResumeFile, restoreSearch, resumeFileOf } from './parallel/resume.ts';
import { WorkerPool } from './parallel/worker-pool.ts';
import { minimise } from './search/minimise.ts';
import type { Bug, Search } from './search/search.ts';
import { type Algorithm, makeSearch, type SearchSpec } from './spec.ts';
import type { Program } from './world/program.ts';
import { show } from './world/schedule.ts';

export interface ExploreOptions {
  /** `name` or `name:size`, or a file's `FILE` or `FILE:NAME`: what `Catalogue.findProgram` takes. */
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
  /** Runs that take more steps are taken for endless: a livelock, or work without an end. 20,000 by default. */
  maxSteps?: number;
  /** Threads that search, this one included; the result does not depend on it. */
  workers?: number;
  /** Go on with a search that was stopped; all but `max` and `workers` is as it was. */
  resume?: ResumeFile;
  /** Stops the search; the result has what it takes to go on. */
  signal?: AbortSignal;
  /** Called about every half second. */
  onProgress?: (progress: ExploreProgress) => void;
  /** Called about every half minute with what it takes to go on from there. */
  onSave?: (file: ResumeFile) => void;
}

export interface ExploreProgress {
  executions: number;
  /** How many it may be in the end. */
  total: number;
  seconds: number;
  /** The share that is done, in 0 to 1, as far as it can be told. */
  done: number;
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
  /** Of `stateful`: how many states there were; the executions are then no classes. Null for all others. */
  states: number | null;
  seconds: number;
  complete: boolean;
  bug: FoundBug | null;
  /** What it takes to go on; null where there is nothing left to do. */
  resume: ResumeFile | null;
}

const PROGRESS_MS = 500;
const SAVE_MS = 30_000;
/** So long at a time a search goes on before it looks at what happens around it. */
const SLICE_MS = 5;

/** Searches until everything was seen, a bug is found, or `max` executions were run. */
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

/** The same of a program that has no name that other threads would know. */
export function exploreProgram(
  program: Program,
  options: Omit<ExploreOptions, 'scenario' | 'workers' | 'mutant'> = {},
) {
  const spec = options.resume?.spec ?? specOf({ ...options, scenario: program.name });
  return new Exploration(program, spec, options).run();
}

function specOf({ scenario, algorithm, mutant, bound, seed, max, maxSteps }: ExploreOptions): SearchSpec {
  return {
    scenario,
    algorithm: algorithm ?? 'optimal',
    mutant: mutant ?? null,
    bound: bound ?? null,
    seed: seed ?? 1,
    samples: max ?? 10_000,
    ...(maxSteps === undefined ? {} : { maxSteps }),
  };
}

/** One search, and what is done beside it. */
class Exploration {
  private readonly program: Program;
  private readonly spec: SearchSpec;
  private readonly options: Omit<ExploreOptions, 'scenario'>;
  private readonly search: Search;
  private readonly pool: WorkerPool | null;
  private readonly max: number;
  private readonly start: number;
  private shown: number;
  private saved: number;
  private slice = 1;

  /** `catalogue` is needed for more than one worker. */
  constructor(program: Program, spec: SearchSpec, options: Omit<ExploreOptions, 'scenario'>, catalogue?: Catalogue) {
    const { workers = 1, max = Number.POSITIVE_INFINITY, resume } = options;
    this.program = program;
    this.spec = spec;
    this.options = options;
    this.max = max;
    this.search = makeSearch(program, spec);
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
      if (this.options.resume === undefined) this.checkDeterminism();
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

  /** Takes the first schedule twice, before anything is believed. */
  private checkDeterminism(): void {
    const difference = findDifference(this.program);
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

  /** Runs for a little while, or takes what came of a part. */
  private async goOn(): Promise<void> {
    const { search, pool } = this;
    pool?.feed();
    const before = performance.now();
    const progress = search.advance(Math.min(this.slice, this.left));
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

  private async pollProgress(): Promise<void> {
    const { options, search } = this;
    const now = performance.now();
    if (this.pool !== null || options.signal !== undefined) await new Promise((resolve) => setImmediate(resolve));
    if (now - this.shown > PROGRESS_MS) {
      this.shown = now;
      const done = search.estimate();
      const { executions } = search.totals;
      const total = done > 0 ? Math.round(executions / done) : 0;
      options.onProgress?.({ executions, total, seconds: this.seconds, done });
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (now - this.saved > SAVE_MS && search.canBeSaved && !this.isOver()) {
      this.saved = now;
      options.onSave?.(resumeFileOf(search, this.spec, this.seconds));
    }
  }
}

function describeBug(program: Program, search: Search): FoundBug | null {
  if (search.bug?.invariant === 'determinism') return describe(program, search.bug, search.bug.message);
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
    // Shown again it may say more: the lines, where the search knows only the steps.
    message: message ?? run.finding?.message ?? bug.message,
    schedule: run.steps.map((step) => step.task),
    preemptions: run.preemptions,
    steps: bug.schedule,
  };
}
