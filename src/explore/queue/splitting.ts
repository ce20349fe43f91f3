/** When a worker of a queue gives away a part: when few jobs wait, unless its parts turned out too small to pay. */
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { PartTimes } from '../parallel/search-part.ts';
import type { HeldTask } from './held-task.ts';
import { addPart } from './job.ts';

/** How often a worker looks at the queue. */
const LOOK_MS = 20;
/** A job costs Redis and its workers a few milliseconds. */
const MIN_PART_MS = 20;
const REST_MS = 300;

export class Splitting {
  /** How many workers share the queue. */
  workers = 1;
  /** The times of the parts that came back. */
  readonly times = new PartTimes(5 * MIN_PART_MS, MIN_PART_MS, REST_MS);
  private readonly redis: Redis;
  private readonly queue: Queue;
  private lookedMs = 0;

  constructor(redis: Redis, queue: Queue) {
    this.redis = redis;
    this.queue = queue;
  }

  /** Gives a part of the task away if workers may need it. */
  async split({ id, task }: HeldTask): Promise<void> {
    const now = performance.now();
    if (now - this.lookedMs < LOOK_MS || this.times.rests) return;
    this.lookedMs = now;
    const waiting = await this.redis.llen(this.queue.toKey('wait'));
    for (let left = this.wanted - waiting; left > 0; left--) {
      const part = task.split();
      if (part === null) return;
      await addPart(this.queue, { search: id, ...part });
    }
  }

  /** How many jobs should wait, so that a worker that becomes free finds one. */
  private get wanted(): number {
    return Math.max(1, Math.ceil(this.workers / 4));
  }
}
