/** What a server did between two looks at its counters. */
import { BUCKETS_S, type CommandCounts, type DeviceCounts, type Histogram } from '../vfio-user/monitor/counters.ts';

export interface DeviceRate {
  readonly device: string;
  readonly messagesPerSecond: number;
  readonly errorsPerSecond: number;
  readonly bytesPerSecond: number;
}

export interface CommandRate {
  readonly device: string;
  readonly command: string;
  readonly perSecond: number;
  readonly total: number;
  readonly errors: number;
  /** Upper bounds of the buckets that hold the percentiles of this interval; null without a message. */
  readonly p50Us: number | null;
  readonly p99Us: number | null;
}

export interface RateSample {
  readonly atMs: number;
  readonly devices: readonly DeviceRate[];
  readonly commands: readonly CommandRate[];
}

export class Rates {
  private before: ReadonlyMap<string, DeviceCounts> = new Map();
  private beforeMs = 0;

  /** The rates since the last call; the first call compares with nothing. */
  sample(atMs: number, counts: ReadonlyMap<string, DeviceCounts>): RateSample {
    const seconds = Math.max(0.001, (atMs - this.beforeMs) / 1000);
    const devices = [...counts].map(([device, now]): DeviceRate => {
      const was = sumOf(this.before.get(device)?.commands ?? []);
      const is = sumOf(now.commands);
      return {
        device,
        messagesPerSecond: (is.messages - was.messages) / seconds,
        errorsPerSecond: (is.errors - was.errors) / seconds,
        bytesPerSecond: (is.bytes - was.bytes) / seconds,
      };
    });
    const commands = [...counts].flatMap(([device, now]) =>
      now.commands.map((each) => this.commandRate(device, each, seconds)),
    );
    this.before = counts;
    this.beforeMs = atMs;
    return { atMs, devices, commands };
  }

  private commandRate(device: string, now: CommandCounts, seconds: number): CommandRate {
    const was = this.before.get(device)?.commands.find(({ command }) => command === now.command)?.latency;
    const buckets = now.latency.buckets.map((count, i) => count - (was?.buckets[i] ?? 0));
    return {
      device,
      command: now.command,
      perSecond: (now.latency.count - (was?.count ?? 0)) / seconds,
      total: now.latency.count,
      errors: now.errors,
      p50Us: percentileUs(buckets, 0.5),
      p99Us: percentileUs(buckets, 0.99),
    };
  }
}

function sumOf(commands: readonly CommandCounts[]): { messages: number; errors: number; bytes: number } {
  const sum = { messages: 0, errors: 0, bytes: 0 };
  for (const { latency, errors, bytesIn, bytesOut } of commands) {
    sum.messages += latency.count;
    sum.errors += errors;
    sum.bytes += bytesIn + bytesOut;
  }
  return sum;
}

/** The upper bound of the bucket with the percentile; the last bucket has no bound and counts as the one before it. */
function percentileUs(buckets: Histogram['buckets'], part: number): number | null {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let seen = 0;
  const at = buckets.findIndex((count) => {
    seen += count;
    return seen >= part * total;
  });
  return BUCKETS_S[Math.min(at, BUCKETS_S.length - 1)] * 1e6;
}
