/**
 * Counters in shared memory: the serving thread counts, and any other thread reads without asking it. Each is a double
 * with one writer, so counting is an addition in place.
 */
import type { RevokeCause } from '../../vfio/buffer-observer.ts';
import { MAX_LOG_BLOCKS, MAX_LOG_RANGES } from '../../vfio/dma-logging.ts';
import { MAX_SECTION_BYTES } from '../../vfio/migration-stream.ts';
import { IMPORTER_LIMITS } from '../dma-buf/limits.ts';
import { layoutsOf } from '../exchange/layouts.ts';
import { LIMITS } from '../wire/frame.ts';

/** In the order of their names, in which the page and the metrics list them. */
const COMMANDS = [...layoutsOf('vfio-user')]
  .map(([command, { name }]) => ({ command, name }))
  .sort((a, b) => (a.name < b.name ? -1 : 1));

/** The commands that are counted, by slot. The last slot is for all others. */
const COUNTED_COMMANDS: readonly string[] = [...COMMANDS.map(({ name }) => name), 'other'];
const SLOTS = new Map(COMMANDS.map(({ command }, slot) => [command, slot]));
/** Slots of small command numbers, which nearly all messages have. */
const SMALL_SLOTS = Uint8Array.from({ length: 64 }, (_, command) => SLOTS.get(command) ?? COUNTED_COMMANDS.length - 1);

const REVOKE_CAUSES: readonly RevokeCause[] = [
  'memory bit',
  'power state',
  'FLR',
  'reset',
  'hot reset',
  'low power',
  'migration',
  'outside',
  'for good',
  'close',
];

/** Upper bounds of the buckets of latencies and durations, in seconds. One more bucket has all that is longer. */
export const BUCKETS_S: readonly number[] = [
  1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1, 0.5, 1, 3, 10,
];

/** A histogram: the count and sum of its values, then the count of each bucket, not cumulative. */
const HISTOGRAM_CELLS = 2 + BUCKETS_S.length + 1;
/** A command of a device: errors, bytes in and out, latencies. */
const COMMAND_CELLS = 3 + HISTOGRAM_CELLS;
/** The single counters of a device, in this order. */
const SINGLES = [
  'clients',
  'dropped',
  'exports',
  'releases',
  'attaches',
  'maps',
  'restores',
  'importersTimedOut',
] as const;
export type Single = (typeof SINGLES)[number];
const SINGLE_AT = Object.fromEntries(SINGLES.map((name, i) => [name, i])) as Record<Single, number>;
/** The limits that turn peers away. The other three of the table are periods of time. */
const { clientRoundMs: _round, clientRoundMsOfAll: _rounds, logWindowMs: _window, ...refusing } = LIMITS;
export const COUNTED_LIMITS: readonly string[] = [
  ...Object.keys({ ...refusing, ...IMPORTER_LIMITS, MAX_LOG_BLOCKS, MAX_LOG_RANGES, MAX_SECTION_BYTES }),
];
const LIMIT_AT = new Map(COUNTED_LIMITS.map((limit, i) => [limit, i]));
const ERRNOS = 134;
const COMMANDS_AT = SINGLES.length + ERRNOS;
const REVOKES_AT = COMMANDS_AT + COUNTED_COMMANDS.length * COMMAND_CELLS;
const DEVICE_CELLS = REVOKES_AT + REVOKE_CAUSES.length * HISTOGRAM_CELLS;

export interface Histogram {
  readonly count: number;
  readonly sumSeconds: number;
  /** The counts of the buckets, one more than BUCKETS_S. */
  readonly buckets: readonly number[];
}

export interface CommandCounts {
  readonly command: string;
  readonly errors: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly latency: Histogram;
}

export interface DeviceCounts extends Readonly<Record<Single, number>> {
  /** Only commands that came. */
  readonly commands: readonly CommandCounts[];
  /** Replies with an error, by errno. */
  readonly errnos: ReadonlyMap<number, number>;
  readonly revokes: readonly { readonly cause: RevokeCause; readonly duration: Histogram }[];
}

export class Counters {
  readonly memory: SharedArrayBuffer;
  private readonly limits: Float64Array;
  private readonly cells: Float64Array;

  /** Makes the memory for `devices` devices, or uses that of another thread. */
  constructor(
    devices: number,
    memory = new SharedArrayBuffer((LIMIT_AT.size + devices * DEVICE_CELLS) * Float64Array.BYTES_PER_ELEMENT),
  ) {
    this.memory = memory;
    this.limits = new Float64Array(memory, 0, LIMIT_AT.size);
    this.cells = new Float64Array(memory, this.limits.byteLength);
  }

  /** Counts a hit of a limit, by any client or importer. */
  limitHit(limit: string): void {
    const at = LIMIT_AT.get(limit);
    if (at !== undefined) this.limits[at] += 1;
  }

  /** How often each limit was hit, also those that never were. */
  limitHits(): ReadonlyMap<string, number> {
    return new Map(COUNTED_LIMITS.map((limit, i) => [limit, this.limits[i]]));
  }

  count(device: number, name: Single, by = 1): void {
    this.cells[device * DEVICE_CELLS + SINGLE_AT[name]] += by;
  }

  /** Counts a message and its reply; `errno` is 0 where it succeeded. */
  exchange(device: number, command: number, errno: number, bytesIn: number, bytesOut: number, seconds: number): void {
    const { cells } = this;
    const slot = command < 64 ? SMALL_SLOTS[command] : (SLOTS.get(command) ?? COUNTED_COMMANDS.length - 1);
    const at = device * DEVICE_CELLS + COMMANDS_AT + slot * COMMAND_CELLS;
    cells[at + 1] += bytesIn;
    cells[at + 2] += bytesOut;
    this.observe(at + 3, seconds);
    if (errno === 0) return;
    cells[at] += 1;
    if (errno < ERRNOS) cells[device * DEVICE_CELLS + SINGLES.length + errno] += 1;
  }

  revoke(device: number, cause: RevokeCause, seconds: number): void {
    this.observe(device * DEVICE_CELLS + REVOKES_AT + REVOKE_CAUSES.indexOf(cause) * HISTOGRAM_CELLS, seconds);
  }

  read(device: number): DeviceCounts {
    const { cells } = this;
    const start = device * DEVICE_CELLS;
    const singles = Object.fromEntries(SINGLES.map((name, i) => [name, cells[start + i]])) as Record<Single, number>;
    const errnos = new Map<number, number>();
    for (let errno = 1; errno < ERRNOS; errno++) {
      const count = cells[start + SINGLES.length + errno];
      if (count > 0) errnos.set(errno, count);
    }
    const commands = COUNTED_COMMANDS.flatMap((command, slot): CommandCounts[] => {
      const at = start + COMMANDS_AT + slot * COMMAND_CELLS;
      const latency = this.histogram(at + 3);
      if (latency.count === 0) return [];
      return [{ command, errors: cells[at], bytesIn: cells[at + 1], bytesOut: cells[at + 2], latency }];
    });
    const revokes = REVOKE_CAUSES.flatMap((cause, i) => {
      const duration = this.histogram(start + REVOKES_AT + i * HISTOGRAM_CELLS);
      return duration.count === 0 ? [] : [{ cause, duration }];
    });
    return { ...singles, commands, errnos, revokes };
  }

  private observe(at: number, seconds: number): void {
    const { cells } = this;
    cells[at] += 1;
    cells[at + 1] += seconds;
    let bucket = 0;
    while (bucket < BUCKETS_S.length && seconds > BUCKETS_S[bucket]) bucket += 1;
    cells[at + 2 + bucket] += 1;
  }

  private histogram(at: number): Histogram {
    const { cells } = this;
    return { count: cells[at], sumSeconds: cells[at + 1], buckets: [...cells.subarray(at + 2, at + HISTOGRAM_CELLS)] };
  }
}
