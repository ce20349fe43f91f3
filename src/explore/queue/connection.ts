/**
 * A connection to the Redis of a queue. BullMQ keeps the jobs and their locks, and gives the jobs of dead workers to
 * others. bullmq and ioredis are optional peers of the package: only queues need them.
 */
import type { Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';

/** The queue cannot be used; the message says why, and what to do. */
export class QueueError extends Error {}

/** All keys in Redis begin with this. */
export const PREFIX = 'barter';

export interface QueueConnection {
  readonly url: string;
  readonly redis: Redis;
  /** Jobs for workers with this code. */
  queue(code: string): Queue;
  /** Takes jobs one by one. A job whose worker is silent for `lostMs` goes to another. */
  taker(code: string, lostMs: number): Worker;
  /** Calls `onMessage` for each message of the channel, after each reconnection too. */
  subscribe(channel: string, onMessage: (text: string) => void): Promise<void>;
  close(): Promise<void>;
}

/** Connects, or throws QueueError. A connection that breaks later is made again, and commands wait for it. */
export async function connectQueue(url: string): Promise<QueueConnection> {
  checkUrl(url);
  const { bullmq, ioredis } = await loadPeers();
  const redis = await connected(new ioredis.Redis(url, { lazyConnect: true, maxRetriesPerRequest: null }), url);
  const closers: (() => Promise<unknown>)[] = [];
  // Each lost connection is an event; the next attempt follows by itself.
  const silent = <T extends Queue | Worker>(one: T): T => {
    (one as Queue).on('error', () => {});
    closers.push(() => one.close());
    return one;
  };
  const common = { connection: redis, prefix: PREFIX };
  return {
    url,
    redis,
    queue: (code) => silent(new bullmq.Queue(queueName(code), common)),
    taker: (code, lostMs) =>
      silent(
        new bullmq.Worker(queueName(code), null, {
          ...common,
          autorun: false,
          lockDuration: lostMs,
          stalledInterval: Math.max(500, lostMs / 2),
          // A job may lose any number of workers.
          maxStalledCount: 1_000_000,
          drainDelay: 1,
        }),
      ),
    subscribe: async (channel, onMessage) => {
      const subscriber = redis.duplicate();
      subscriber.on('error', () => {});
      subscriber.on('message', (_channel: string, text: string) => onMessage(text));
      closers.push(async () => subscriber.disconnect());
      await subscriber.subscribe(channel);
    },
    close: async () => {
      const closed = Promise.all(closers.map((close) => close().catch(() => {})));
      // Without a server these would wait for one.
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
      redis.disconnect();
    },
  };
}

/** BullMQ refuses colons in names. */
function queueName(code: string): string {
  return `jobs-${code}`;
}

function checkUrl(url: string): void {
  const protocol = URL.canParse(url) ? new URL(url).protocol : '';
  if (protocol !== 'redis:' && protocol !== 'rediss:') {
    throw new QueueError(`--queue ${shownUrl(url)}: not an address of a Redis; it has the form redis://HOST:PORT`);
  }
}

async function loadPeers() {
  try {
    return { bullmq: await import('bullmq'), ioredis: await import('ioredis') };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new QueueError('a queue needs the packages bullmq and ioredis; run npm install bullmq ioredis');
  }
}

async function connected(redis: Redis, url: string): Promise<Redis> {
  let last: NodeJS.ErrnoException | null = null;
  redis.on('error', (error: NodeJS.ErrnoException) => {
    last = error;
  });
  try {
    await redis.connect();
    return redis;
  } catch (error) {
    redis.disconnect();
    const { code, message } = last ?? (error as NodeJS.ErrnoException);
    const why = code === 'ECONNREFUSED' ? 'nothing listens there; start redis-server, or name another host' : message;
    throw new QueueError(`--queue ${shownUrl(url)}: ${why}`);
  }
}

/** The address of a Redis without its password, for everything that is printed. */
export function shownUrl(url: string): string {
  if (!URL.canParse(url)) return url.replace(/:[^:@/]*@/, ':***@');
  const shown = new URL(url);
  if (shown.password !== '') shown.password = '***';
  return shown.password === '' ? url : shown.href;
}
