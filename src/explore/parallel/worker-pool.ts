/**
 * Runs one search on several threads. The main search stays in its thread and proceeds as it would alone. It gives away
 * parts that it will reach later. When it reaches one, it joins the result as if it had searched the part itself. A
 * part's result does not depend on the thread or the time, so totals and the first bug are those of one thread.
 */
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../linux/worker.ts';
import type { Part, PartOutcome, Search } from '../search/search.ts';
import { makeSearch, type SearchSpec } from '../spec.ts';
import type { Program } from '../world/program.ts';
import { followedBy, type PartDone, PartTimes, type PoolWorkerData, searchPart } from './search-part.ts';

/** Keep about 40 ms of work queued per worker so that it never idles, but not more, since queued parts wait. */
const AHEAD_MS = 40;
/**
 * Searching a smaller part here is cheaper than giving it away. A thread with such parts pauses, and is tried again.
 */
const MIN_PART_MS = 1.5;
const REST_MS = 40;
/** With more unclaimed parts than this, threads pause, since their results take memory. */
const MAX_KEPT = 2000;

interface Member {
  worker: Worker;
  isReady: boolean;
  outstanding: number;
  /** The times of the parts that it returned. */
  times: PartTimes;
}

/** A thread of the pool at this moment. */
export interface ThreadProgress {
  /** `thread 2` and so on, for people. */
  name: string;
  /** Parts that it has and has not finished. */
  parts: number;
  /** The average time of its recent parts. */
  partMs: number;
  /** Its parts were too small to be worth the way. */
  rests: boolean;
}

export class WorkerPool {
  private readonly search: Search;
  /** Searches parts in this thread while it waits for others. */
  private readonly own: Search;
  private readonly members: Member[];
  private readonly outcomes = new Map<number, PartOutcome>();
  private readonly outstanding = new Set<number>();
  private readonly awaited = new Int32Array(new SharedArrayBuffer(4));
  /** How often the search has restarted, and the last part that it gave away before. */
  private restarts = 0;
  private stale = 0;
  private failure: Error | null = null;
  private wake: () => void = () => {};

  /** `catalogue` is `Catalogue.url`. `workers` includes the calling thread. */
  constructor(search: Search, program: Program, spec: SearchSpec, catalogue: string, workers: number) {
    this.search = search;
    this.own = makeSearch(program, spec);
    if (workers >= availableParallelism()) collectAlone();
    this.members = Array.from({ length: workers - 1 }, () => this.member(spec, catalogue));
  }

  progress(): ThreadProgress[] {
    return this.members.map(({ outstanding, times }, i) => {
      return { name: `thread ${i + 2}`, parts: outstanding, partMs: times.averageMs, rests: times.rests };
    });
  }

  /** Gives parts to threads that have few. */
  feed(): void {
    if (this.failure !== null) throw this.failure;
    this.forgetStale();
    for (const member of this.members) {
      if (member.times.rests) continue;
      const ahead = Math.max(2, Math.min(64, Math.round(AHEAD_MS / member.times.averageMs)));
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

  /** Returns the result of the part that the search waits for. Until it arrives, searches other parts or sleeps. */
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

  /** Forgets the parts of a search that has restarted. */
  private forgetStale(): void {
    if (this.search.restarts === this.restarts) return;
    this.restarts = this.search.restarts;
    this.stale = this.search.lastPart;
    this.outcomes.clear();
  }

  async end(): Promise<void> {
    await Promise.all(this.members.map(({ worker }) => worker.terminate()));
  }

  /** Returns a part that a thread gave back unfinished, or a new part. */
  private nextPart(): Part | null {
    for (const [id, { rest }] of this.outcomes) {
      if (rest !== null && !this.outstanding.has(id) && id !== this.search.awaited) return { id, state: rest };
    }
    return this.search.splitPart();
  }

  private member(spec: SearchSpec, catalogue: string): Member {
    const workerData: PoolWorkerData = { spec, catalogue, awaited: this.awaited };
    const worker = startWorker('./pool-thread', import.meta.url, { workerData });
    const member: Member = {
      worker,
      isReady: false,
      outstanding: 0,
      times: new PartTimes(AHEAD_MS, MIN_PART_MS, REST_MS),
    };
    worker.on('message', (done: PartDone[]) => {
      member.isReady = true;
      member.outstanding -= done.length;
      for (const one of done) {
        this.outstanding.delete(one.id);
        this.keep(one);
      }
      member.times.learn(done.map(({ ms }) => ms));
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
 * Turns off V8's helper threads for garbage collection. If every core runs a pool thread, the helpers only compete with
 * it: 200,000 runs took 28 s with them and 23 s without, on two cores. V8 reads both flags at the start of a
 * collection, so they may change at any time. They apply to the whole process, and stay.
 */
function collectAlone(): void {
  setFlagsFromString('--no-parallel-scavenge');
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
}
