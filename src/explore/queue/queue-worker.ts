/**
 * A worker of a queue searches parts. It gives away parts of its part when too few jobs wait. While a task waits for a
 * part that another worker has, the worker takes another job; the oldest task that can go on goes first.
 */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job, Queue, Worker } from 'bullmq';
import type { Catalogue } from '../catalogue.ts';
import { codeHash } from './code-hash.ts';
import type { QueueConnection } from './connection.ts';
import type { HeldTask } from './held-task.ts';
import { type PartJob, partJobId } from './job.ts';
import { LoadedCode } from './loaded-code.ts';
import { PartTask } from './part-task.ts';
import { Splitting } from './splitting.ts';
import { type QueuedSearch, QueueStore, type StoredResult } from './store.ts';

const SLICE_MS = 10;
const HEARTBEAT_MS = 2000;
/** A worker that dies loses at most this much of its work, beside the parts that it still waited for. */
const SAVE_MS = 3000;
/** Messages may be lost with a connection. So a waiting task looks for itself. */
const LOOK_MS = 1000;
/** How long a worker leaves a job to others that it will not do itself. */
const REFUSED_MS = 1000;
const MAX_HELD = 16;

export interface QueueWorkerOptions {
  connection: QueueConnection;
  catalogue: Catalogue;
  /** The jobs of a worker that is silent for this long go to others. */
  lostMs: number;
  /** Called with a line for people. */
  onNote: (text: string) => void;
}

export class QueueWorker {
  readonly name = `${hostname()}-${process.pid}`;
  readonly code = codeHash();
  private readonly options: QueueWorkerOptions;
  private readonly store: QueueStore;
  private readonly queue: Queue;
  private readonly taker: Worker;
  private readonly splitting: Splitting;
  private readonly loaded: LoadedCode;
  /** The oldest first. */
  private readonly held: HeldTask[] = [];
  private readonly searches = new Map<string, QueuedSearch>();
  private fetching: Promise<void> | null = null;
  private wake: () => void = () => {};
  private isStopped = false;
  private done = 0;

  constructor(options: QueueWorkerOptions) {
    this.options = options;
    const { connection, catalogue, lostMs } = options;
    this.store = new QueueStore(connection.redis);
    this.queue = connection.queue(this.code);
    this.taker = connection.taker(this.code, lostMs);
    this.splitting = new Splitting(connection.redis, this.queue);
    this.loaded = new LoadedCode(catalogue);
  }

  /** Works until `stop`. */
  async run(): Promise<void> {
    await this.taker.waitUntilReady();
    await this.taker.startStalledCheckTimer();
    await this.options.connection.subscribe(QueueStore.DONE_CHANNEL, (text) => this.onDone(text));
    const timers = [
      setInterval(() => void this.announce(), HEARTBEAT_MS),
      setInterval(() => void this.renewLocks(), this.options.lostMs / 3),
    ];
    await this.announce();
    try {
      while (!this.isStopped) await this.turn();
    } finally {
      for (const timer of timers) clearInterval(timer);
      await this.leave();
    }
  }

  /** Lets `run` return soon. Another worker continues what this one held. */
  stop(): void {
    this.isStopped = true;
    this.wake();
  }

  private async leave(): Promise<void> {
    while (this.held.length > 0) await this.giveBack(this.held[0]);
    this.loaded.useMutant(null);
    await this.store.leave(this.name);
  }

  private async turn(): Promise<void> {
    const now = performance.now();
    for (const one of this.held) {
      if (one.waitsFor !== null && now - one.lookedMs > LOOK_MS) await this.look(one);
    }
    const [oldest, next] = this.held.filter((one) => one.waitsFor === null);
    if (oldest === undefined) return this.pause();
    if (next !== undefined && !next.task.hasGiven) await this.giveBack(next);
    await this.advance(oldest);
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Waits for a job, or until a task can go on. */
  private async pause(): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      this.wake = resolve;
    });
    if (this.held.length < MAX_HELD) this.fetching ??= this.fetch();
    await Promise.race([woken, sleep(LOOK_MS), ...(this.fetching === null ? [] : [this.fetching])]);
  }

  private async fetch(): Promise<void> {
    const token = randomUUID();
    try {
      const job: Job<PartJob> | undefined = await this.taker.getNextJob(token);
      if (job !== undefined) await this.accept(job, token);
    } catch (error) {
      if (!this.isStopped) this.options.onNote(`no job: ${(error as Error).message}`);
      await sleep(LOOK_MS / 2);
    } finally {
      this.fetching = null;
    }
  }

  private async accept(job: Job<PartJob>, token: string): Promise<void> {
    const { search: id, key, state } = job.data;
    const search = await this.searchOf(id);
    if (search === null || (await this.store.result(id, key)) !== null) return complete(job, token);
    // A task can go on meanwhile, and another worker may have time.
    if (this.isStopped || this.held.some((one) => one.waitsFor === null)) return void (await job.moveToWait(token));
    const difference = this.loaded.difference(search);
    if (difference !== null) return this.refuse(job, token, difference);
    try {
      await this.loaded.load(search);
      const checkpoint = await this.store.checkpoint(id, key);
      const task = new PartTask(this.loaded.makeSearch(search.spec), key, state, checkpoint);
      const now = performance.now();
      this.held.push({ job, token, id, search, task, waitsFor: null, lookedMs: now, savedMs: now });
    } catch (error) {
      await this.store.addResult(id, key, { error: (error as Error).message });
      await complete(job, token);
    }
  }

  private async refuse(job: Job<PartJob>, token: string, why: string): Promise<void> {
    this.options.onNote(`refused a search: ${why}`);
    await this.store.refuse(job.data.search, this.name, why);
    await job.moveToDelayed(Date.now() + REFUSED_MS, token);
  }

  private async searchOf(id: string): Promise<QueuedSearch | null> {
    const known = this.searches.get(id);
    if (known !== undefined) return known;
    const search = await this.store.search(id);
    if (search !== null) this.searches.set(id, search);
    return search;
  }

  private async advance(held: HeldTask): Promise<void> {
    this.loaded.useMutant(held.search.spec.mutant);
    try {
      const progress = held.task.advance(SLICE_MS);
      if (progress === 'waits') await this.look(held);
      else if (progress === 'done') await this.end(held, held.task.result());
      else {
        await this.splitting.split(held);
        if (performance.now() - held.savedMs > SAVE_MS) await this.save(held);
      }
    } catch (error) {
      await this.end(held, { error: (error as Error).message });
    }
  }

  /** Joins the result of the part that the task waits for, or takes the part back if nobody has begun it. */
  private async look(held: HeldTask): Promise<void> {
    const { id, task } = held;
    const key = task.awaited;
    held.waitsFor = key;
    held.lookedMs = performance.now();
    // A worker writes the result before it ends the job. So this order never takes back a part that has a result.
    const isFree = (await this.queue.remove(partJobId(id, key))) === 1;
    const result = await this.store.result(id, key);
    if (result === null && !isFree) return;
    held.waitsFor = null;
    if (result === null) task.reclaim();
    else if ('error' in result) await this.end(held, result);
    else {
      this.loaded.useMutant(held.search.spec.mutant);
      task.join(result);
      this.splitting.times.learn([result.ms]);
    }
  }

  private async end(held: HeldTask, result: StoredResult): Promise<void> {
    this.drop(held);
    this.done += 1;
    await this.store.addResult(held.id, held.task.key, result);
    await complete(held.job, held.token);
  }

  private async save(held: HeldTask): Promise<void> {
    const { id, task, search } = held;
    held.savedMs = performance.now();
    if ((await this.store.search(id)) === null) return this.forget(id);
    const checkpoint = task.checkpoint();
    if (checkpoint === null) return;
    await this.store.leaveCheckpoint(id, task.key, checkpoint);
    if (task.key !== search.root) return;
    await this.store.setProgress(id, { ...checkpoint.outcome.totals, done: task.estimate() });
  }

  private async giveBack(held: HeldTask): Promise<void> {
    this.drop(held);
    const checkpoint = held.task.checkpoint();
    if (checkpoint !== null) await this.store.leaveCheckpoint(held.id, held.task.key, checkpoint);
    await held.job.moveToWait(held.token).catch(() => {});
  }

  private drop(held: HeldTask): void {
    this.held.splice(this.held.indexOf(held), 1);
  }

  private onDone(text: string): void {
    const [id, part] = text.split(' ');
    if (part === 'over') this.forget(id);
    for (const held of this.held) {
      if (held.id !== id || held.waitsFor !== part) continue;
      held.waitsFor = null;
      this.wake();
    }
  }

  /** Drops the parts of a search that is over. */
  private forget(id: string): void {
    this.searches.delete(id);
    for (const held of this.held.filter((one) => one.id === id)) {
      this.drop(held);
      void complete(held.job, held.token);
    }
  }

  private async announce(): Promise<void> {
    const scenarios = [...new Set(this.held.map(({ search }) => search.spec.scenario))];
    const doing = scenarios.length === 0 ? 'idle' : scenarios.join(', ');
    const { averageMs: partMs, rests } = this.splitting.times;
    const parts = this.held.length;
    await this.store.announce({ name: this.name, code: this.code, doing, done: this.done, parts, partMs, rests });
    const workers = await this.store.workers();
    this.splitting.workers = workers.filter(({ code }) => code === this.code).length;
  }

  private async renewLocks(): Promise<void> {
    const { lostMs } = this.options;
    // A lock that was lost lets another worker search the same part, to the same result.
    await Promise.all(this.held.map(({ job, token }) => job.extendLock(token, lostMs).catch(() => {})));
  }
}

async function complete(job: Job, token: string): Promise<void> {
  // Fails if the lock was lost meanwhile; another worker then ends the job.
  await job.moveToCompleted(null, token, false).catch(() => {});
}
