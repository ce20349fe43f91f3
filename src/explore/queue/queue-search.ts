/**
 * A search by the workers of a queue. This process only asks for the search and waits for its result. It may be killed
 * and started again: the search goes on, and the same request finds it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Queue } from 'bullmq';
import { applyMutantOf, type Catalogue } from '../catalogue.ts';
import { findUnlike } from '../checks/alike.ts';
import { findDifference } from '../checks/determinism.ts';
import { LockOrder } from '../checks/lock-order.ts';
import { describeBug, type ExploreProgress, type ExploreResult, expectedTotal } from '../explore.ts';
import type { Bug } from '../search/search.ts';
import { makeSearch, type SearchSpec } from '../spec.ts';
import type { Program } from '../world/program.ts';
import { codeHash, programHash, searchId } from './code-hash.ts';
import { type QueueConnection, QueueError } from './connection.ts';
import { addPart, partJobId } from './job.ts';
import { type PartResult, partKey } from './part-task.ts';
import { type QueuedSearch, QueueStore, type StoredResult } from './store.ts';

const LOOK_MS = 200;
/** How long to wait for a worker before saying that none is there. */
const ALONE_MS = 3000;

export interface QueueSearchOptions {
  connection: QueueConnection;
  spec: SearchSpec;
  catalogue: Catalogue;
  /** Stops the waiting; the search goes on. */
  signal?: AbortSignal;
  onProgress?: (progress: ExploreProgress) => void;
  /** Called with a line for people: a worker refuses, or none is there. */
  onNote?: (text: string) => void;
}

/** Thrown when `signal` ended the waiting. */
export class LeftRunningError extends Error {}

/** Asks the workers of a queue for a search, and waits for its result: that of one thread. Throws QueueError. */
export async function exploreOverQueue(options: QueueSearchOptions): Promise<ExploreResult> {
  const { spec, catalogue } = options;
  if (spec.algorithm === 'stateful') throw new QueueError('a stateful search has one thread; it has no parts');
  await catalogue.loadPrograms(spec.scenario);
  const undo = applyMutantOf(catalogue, spec);
  try {
    return await new QueueSearch(catalogue.findProgram(spec.scenario), options).run();
  } finally {
    undo();
  }
}

class QueueSearch {
  private readonly program: Program;
  private readonly options: QueueSearchOptions;
  private readonly store: QueueStore;
  private readonly queue: Queue;
  private readonly id: string;
  private readonly state: object;
  private readonly search: QueuedSearch;
  private readonly noted = new Set<string>();

  constructor(program: Program, options: QueueSearchOptions) {
    const { connection, spec } = options;
    this.program = program;
    this.options = options;
    this.store = new QueueStore(connection.redis);
    const code = codeHash();
    const hash = programHash(spec.scenario);
    this.queue = connection.queue(code);
    this.id = searchId(code, hash, spec);
    this.state = makeSearch(program, spec).state();
    this.search = { spec, code, program: hash, root: partKey(this.state), startedAt: Date.now() };
  }

  async run(): Promise<ExploreResult> {
    const { store, id, program } = this;
    const { oneOfAlike } = makeSearch(program, this.options.spec);
    const difference = findDifference(program) ?? (oneOfAlike ? findUnlike(program) : null);
    if (difference !== null) return this.resultOf({ ...difference.finding, schedule: difference.schedule }, null);
    await store.addSearch(id, this.search);
    const result = await this.await();
    await store.endSearch(id);
    if ('error' in result) throw new QueueError(`a worker failed: ${result.error}`);
    return this.resultOf(result.outcome.bug, result);
  }

  private async await(): Promise<StoredResult> {
    const { store, id, search, options } = this;
    for (;;) {
      // In this order no result is missed: a worker writes it before it ends the job.
      const isThere = (await this.queue.getJob(partJobId(id, search.root))) !== undefined;
      const result = await store.result(id, search.root);
      if (result !== null) return result;
      // Redis may have lost it, if it was killed within a second of its last write to disk.
      await store.addSearch(id, search);
      if (!isThere) await addPart(this.queue, { search: id, key: search.root, state: this.state });
      if (options.signal?.aborted === true) throw new LeftRunningError(id);
      await this.report();
      await sleep(LOOK_MS);
    }
  }

  private async report(): Promise<void> {
    const workers = await this.store.workers();
    const threads = workers.filter(({ code }) => code === this.search.code);
    const progress = await this.store.progress(this.id);
    if (progress !== null) {
      const total = expectedTotal(progress.executions, progress.done);
      this.options.onProgress?.({ ...progress, total, seconds: this.seconds, depth: null, threads });
    }
    for (const [worker, why] of Object.entries(await this.store.refusals(this.id))) {
      this.note(`worker ${worker} refuses: ${why}`);
    }
    if (threads.length > 0 || this.seconds * 1000 < ALONE_MS) return;
    const others =
      workers.length === 0 ? '' : `; ${workers.length} have another version of Barter than ${this.search.code}`;
    this.note(`no worker takes the search yet${others}; start barter worker --queue ${this.options.connection.url}`);
  }

  private note(text: string): void {
    if (this.noted.has(text)) return;
    this.noted.add(text);
    this.options.onNote?.(text);
  }

  private get seconds(): number {
    return (Date.now() - this.search.startedAt) / 1000;
  }

  private resultOf(bug: Bug | null, result: PartResult | null): ExploreResult {
    const { program, options, seconds } = this;
    const { scenario, algorithm, mutant } = options.spec;
    const lockOrder = new LockOrder();
    lockOrder.merge(result?.outcome.lockEdges ?? []);
    const totals = result?.outcome.totals ?? { executions: 0, blocked: 0, steps: 0 };
    const complete = result?.complete ?? false;
    const described = describeBug(program, { bug, lockOrder });
    return { scenario, algorithm, mutant, ...totals, states: null, seconds, complete, bug: described, resume: null };
  }
}
