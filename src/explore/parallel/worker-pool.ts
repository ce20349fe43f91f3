/**
 * Several threads for one search. The search stays where it is and goes on as it would alone; what it will come to
 * later is given away in parts, and when it gets there, what came of the part is taken as if it had gone there itself.
 * Each part is the same whoever goes through it and whenever, so that the totals, and the bug that is found first, are
 * those of one thread.
 */
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../linux/worker.ts';
import type { Part, PartOutcome, Search } from '../search/search.ts';
import { makeSearch, type SearchSpec } from '../spec.ts';
import type { Program } from '../world/program.ts';
import { type PartDone, type PoolWorkerData, searchPart } from './search-part.ts';

/** A thread has parts for about so long before it, so that it need not wait for the next; but no others wait for it. */
const AHEAD_MS = 40;
/** Parts that take less are sooner gone through than given away: then a thread rests so long, and is tried again. */
const MIN_PART_MS = 1.5;
const REST_MS = 40;
/** With more parts than this that nobody has asked for yet, threads rest: what came of them takes memory. */
const MAX_KEPT = 2000;

interface Member {
  worker: Worker;
  isReady: boolean;
  outstanding: number;
  /** How long a part took of late. */
  partMs: number;
  /** Until then its parts are too small to be given. */
  restsUntil: number;
}

export class WorkerPool {
  private readonly search: Search;
  /** For parts that this thread goes through while it waits for others. */
  private readonly own: Search;
  private readonly members: Member[];
  private readonly outcomes = new Map<number, PartOutcome>();
  private readonly outstanding = new Set<number>();
  private readonly awaited = new Int32Array(new SharedArrayBuffer(4));
  /** How often the search had begun anew, and the last part that it gave away before. */
  private restarts = 0;
  private stale = 0;
  private failure: Error | null = null;
  private wake: () => void = () => {};

  /** `catalogue` is `Catalogue.url`; `workers` counts the thread that calls. */
  constructor(search: Search, program: Program, spec: SearchSpec, catalogue: string, workers: number) {
    this.search = search;
    this.own = makeSearch(program, spec);
    if (workers >= availableParallelism()) collectAlone();
    this.members = Array.from({ length: workers - 1 }, () => this.member(spec, catalogue));
  }

  /** Gives parts to threads that have few. */
  feed(): void {
    if (this.failure !== null) throw this.failure;
    this.forgetStale();
    const now = performance.now();
    for (const member of this.members) {
      if (now < member.restsUntil) continue;
      const ahead = Math.max(2, Math.min(64, Math.round(AHEAD_MS / member.partMs)));
      if (!member.isReady || member.outstanding > ahead / 2 || this.outcomes.size > MAX_KEPT) continue;
      const parts: Part[] = [];
      while (member.outstanding + parts.length <= ahead) {
        const part = this.nextPart();
        if (part === null) break;
        this.outstanding.add(part.id);
        parts.push(part);
      }
      member.outstanding += parts.length;
      if (parts.length > 0) member.worker.postMessage(parts);
    }
  }

  /** What came of the part that the search waits for; goes through others, or sleeps, until it is there. */
  async awaitPart(): Promise<PartOutcome> {
    const { awaited } = this.search;
    Atomics.store(this.awaited, 0, awaited);
    for (;;) {
      if (this.failure !== null) throw this.failure;
      const outcome = this.outcomes.get(awaited);
      if (outcome !== undefined && !this.outstanding.has(awaited)) {
        this.outcomes.delete(awaited);
        Atomics.store(this.awaited, 0, 0);
        return outcome;
      }
      this.feed();
      const part = this.search.splitPart();
      if (part !== null) {
        this.keep(searchPart(this.own, part, () => false));
        await new Promise((resolve) => setImmediate(resolve));
      } else {
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    }
  }

  /** Parts of a search that began anew are nobody's. */
  private forgetStale(): void {
    if (this.search.restarts === this.restarts) return;
    this.restarts = this.search.restarts;
    this.stale = this.search.lastPart;
    this.outcomes.clear();
  }

  async end(): Promise<void> {
    await Promise.all(this.members.map(({ worker }) => worker.terminate()));
  }

  /** One that a thread has handed back unfinished, or a new one. */
  private nextPart(): Part | null {
    for (const [id, { rest }] of this.outcomes) {
      if (rest !== null && !this.outstanding.has(id) && id !== this.search.awaited) return { id, state: rest };
    }
    return this.search.splitPart();
  }

  private member(spec: SearchSpec, catalogue: string): Member {
    const workerData: PoolWorkerData = { spec, catalogue, awaited: this.awaited };
    const worker = startWorker('./pool-thread', import.meta.url, { workerData });
    const member: Member = { worker, isReady: false, outstanding: 0, partMs: AHEAD_MS, restsUntil: 0 };
    worker.on('message', (done: PartDone[]) => {
      member.isReady = true;
      member.outstanding -= done.length;
      for (const one of done) {
        this.outstanding.delete(one.id);
        this.keep(one);
        member.partMs = 0.8 * member.partMs + 0.2 * one.ms;
      }
      if (member.partMs < MIN_PART_MS) {
        member.restsUntil = performance.now() + REST_MS;
        member.partMs = 2 * MIN_PART_MS;
      }
      this.wake();
    });
    worker.on('error', (error) => {
      this.failure = error;
      this.wake();
    });
    return member;
  }

  private keep({ id, outcome }: PartDone): void {
    this.forgetStale();
    if (id <= this.stale) return;
    const before = this.outcomes.get(id);
    this.outcomes.set(id, before === undefined ? outcome : followedBy(before, outcome));
  }
}

/**
 * V8 has threads that help each collection along. Where every core has a thread of the pool they only take turns with
 * those: 200,000 runs took 28 s with them and 23 s without, on two cores. Both flags are looked at when a collection
 * begins, so that they may change at any time; they are the process's, and stay.
 */
function collectAlone(): void {
  setFlagsFromString('--no-parallel-scavenge');
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
}

/** What came of a part, and then of the rest of it. */
export function followedBy(first: PartOutcome, rest: PartOutcome): PartOutcome {
  return {
    totals: {
      executions: first.totals.executions + rest.totals.executions,
      blocked: first.totals.blocked + rest.totals.blocked,
      steps: first.totals.steps + rest.totals.steps,
    },
    lockEdges: [...first.lockEdges, ...rest.lockEdges],
    bug: rest.bug,
    walk: first.walk,
    races: [...first.races, ...rest.races],
    rest: rest.rest,
    looks: rest.looks,
  };
}
