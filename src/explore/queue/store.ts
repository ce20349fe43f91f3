/**
 * What a queue keeps in Redis beside the jobs: the searches under way, the results of parts until their search is over,
 * the checkpoints of tasks, and which workers there are.
 */
import type { Redis } from 'ioredis';
import type { ThreadProgress } from '../parallel/worker-pool.ts';
import type { Totals } from '../search/search.ts';
import type { SearchSpec } from '../spec.ts';
import { PREFIX } from './connection.ts';
import type { Checkpoint, PartResult } from './part-task.ts';

/** A search that was asked for. */
export interface QueuedSearch {
  spec: SearchSpec;
  /** Hashes of the package (`codeHash`) and of the user's file (`programHash`). */
  code: string;
  program: string;
  /** The key of the part that is the whole search. */
  root: string;
  startedAt: number;
}

/** A part that could be searched, or the reason why not. */
export type StoredResult = PartResult | { error: string };

export interface WorkerState extends ThreadProgress {
  code: string;
  /** `idle`, or what it does. */
  doing: string;
  /** How many jobs it has ended. */
  done: number;
}

export interface QueueProgress extends Totals {
  /** From 0 to 1. */
  done: number;
}

/** A search that nobody asks for any more is forgotten after this time. */
const KEEP_SECONDS = 7 * 24 * 3600;
/** A worker that was silent for this long is gone. */
const WORKER_SECONDS = 10;

export class QueueStore {
  static readonly DONE_CHANNEL = `${PREFIX}:done`;
  private readonly redis: Redis;

  constructor(redis: Redis) {
    this.redis = redis;
  }

  async addSearch(id: string, search: QueuedSearch): Promise<void> {
    await this.redis.hsetnx(`${PREFIX}:searches`, id, JSON.stringify(search));
  }

  async search(id: string): Promise<QueuedSearch | null> {
    return parsed<QueuedSearch>(await this.redis.hget(`${PREFIX}:searches`, id));
  }

  async searches(): Promise<Map<string, QueuedSearch>> {
    const all = await this.redis.hgetall(`${PREFIX}:searches`);
    return new Map(Object.entries(all).map(([id, text]) => [id, JSON.parse(text) as QueuedSearch]));
  }

  /** Forgets a search with all its results. Workers drop its parts. */
  async endSearch(id: string): Promise<void> {
    await this.redis
      .multi()
      .hdel(`${PREFIX}:searches`, id)
      .del(...['results', 'left', 'refusals', 'progress'].map((what) => this.key(id, what)))
      .publish(QueueStore.DONE_CHANNEL, `${id} over`)
      .exec();
  }

  async result(id: string, part: string): Promise<StoredResult | null> {
    return parsed<StoredResult>(await this.redis.hget(this.key(id, 'results'), part));
  }

  /** Keeps the first result of a part: all are equal. */
  async addResult(id: string, part: string, result: StoredResult): Promise<void> {
    await this.redis
      .multi()
      .hsetnx(this.key(id, 'results'), part, JSON.stringify(result))
      .hdel(this.key(id, 'left'), part)
      .expire(this.key(id, 'results'), KEEP_SECONDS)
      .publish(QueueStore.DONE_CHANNEL, `${id} ${part}`)
      .exec();
  }

  async countResults(id: string): Promise<number> {
    return this.redis.hlen(this.key(id, 'results'));
  }

  async checkpoint(id: string, part: string): Promise<Checkpoint | null> {
    return parsed<Checkpoint>(await this.redis.hget(this.key(id, 'left'), part));
  }

  async leaveCheckpoint(id: string, part: string, checkpoint: Checkpoint): Promise<void> {
    await this.redis
      .multi()
      .hset(this.key(id, 'left'), part, JSON.stringify(checkpoint))
      .expire(this.key(id, 'left'), KEEP_SECONDS)
      .exec();
  }

  async setProgress(id: string, progress: QueueProgress): Promise<void> {
    await this.redis.set(this.key(id, 'progress'), JSON.stringify(progress), 'EX', KEEP_SECONDS);
  }

  async progress(id: string): Promise<QueueProgress | null> {
    return parsed<QueueProgress>(await this.redis.get(this.key(id, 'progress')));
  }

  /** Notes why a worker will not search this. */
  async refuse(id: string, worker: string, why: string): Promise<void> {
    await this.redis.hset(this.key(id, 'refusals'), worker, why);
    await this.redis.expire(this.key(id, 'refusals'), KEEP_SECONDS);
  }

  async refusals(id: string): Promise<Record<string, string>> {
    return this.redis.hgetall(this.key(id, 'refusals'));
  }

  async announce(worker: WorkerState): Promise<void> {
    await this.redis.set(`${PREFIX}:worker:${worker.name}`, JSON.stringify(worker), 'EX', WORKER_SECONDS);
  }

  async leave(worker: string): Promise<void> {
    await this.redis.del(`${PREFIX}:worker:${worker}`);
  }

  async workers(): Promise<WorkerState[]> {
    const keys: string[] = [];
    let cursor = '0';
    do {
      const [next, found] = await this.redis.scan(cursor, 'MATCH', `${PREFIX}:worker:*`, 'COUNT', 1000);
      cursor = next;
      keys.push(...found);
    } while (cursor !== '0');
    if (keys.length === 0) return [];
    const texts = await this.redis.mget([...new Set(keys)].sort());
    return texts.flatMap((text) => parsed<WorkerState>(text) ?? []);
  }

  private key(id: string, what: string): string {
    return `${PREFIX}:search:${id}:${what}`;
  }
}

function parsed<T>(text: string | null): T | null {
  return text === null ? null : (JSON.parse(text) as T);
}
