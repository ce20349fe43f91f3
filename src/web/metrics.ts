/**
 * The metrics of a served machine, in Prometheus' text format. The serving thread counts; a scrape only reads what it
 * has counted.
 */
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import type * as promClient from 'prom-client';
import { errnoName } from '../abi/errno.ts';
import type { Watcher } from '../machine/watcher.ts';
import { BUCKETS_S, type DeviceCounts, type Histogram, type Single } from '../vfio-user/monitor/counters.ts';
import type { ServerState } from '../vfio-user/monitor/state.ts';

type Labels = Record<string, string>;

interface Sample {
  readonly metricName?: string;
  readonly labels: Labels;
  readonly value: number;
}

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly values: readonly Sample[];
}

const SINGLES: readonly { name: string; of: Single; help: string }[] = [
  { name: 'barter_clients_total', of: 'clients', help: 'Clients that got the device.' },
  { name: 'barter_clients_dropped_total', of: 'dropped', help: 'Connections that the server ended for a fault.' },
  { name: 'barter_buffers_exported_total', of: 'exports', help: 'Buffers that were exported of the device.' },
  { name: 'barter_buffers_released_total', of: 'releases', help: 'Buffers that were released.' },
  { name: 'barter_attachments_total', of: 'attaches', help: 'Attachments of importers.' },
  { name: 'barter_mappings_total', of: 'maps', help: 'Mappings of importers.' },
  { name: 'barter_restores_total', of: 'restores', help: 'Buffers that were lent again after a revoke.' },
  {
    name: 'barter_importers_timed_out_total',
    of: 'importersTimedOut',
    help: 'Importers that did not let go in time and were disconnected.',
  },
];

/** How long a scrape waits for the serving thread. */
const STATE_MS = 1000;

export class Metrics {
  private readonly watcher: Watcher;
  private readonly devices: readonly string[];
  private readonly startedSeconds = Date.now() / 1000 - process.uptime();

  constructor(watcher: Watcher, devices: readonly string[]) {
    this.watcher = watcher;
    this.devices = devices;
  }

  async text(): Promise<{ type: string; text: string }> {
    // The bundle of the server has no import() at run time, and a server without scrapes does not load the library.
    const { Registry } = createRequire(import.meta.url)('prom-client') as typeof promClient;
    const registry = new Registry();
    const counts = this.devices.map((device, i) => ({ device, counts: this.watcher.counters.read(i) }));
    const state = await this.state();
    const families = [
      ...messageFamilies(counts),
      ...SINGLES.map(({ name, of, help }) => {
        const values = counts.map(({ device, counts: each }) => ({ labels: { device }, value: each[of] }));
        return { name, help, type: 'counter' as const, values };
      }),
      revokeFamily(counts),
      limitFamily(this.watcher.counters.limitHits()),
      ...(state === null ? [] : stateFamilies(state)),
      ...processFamilies(this.startedSeconds),
    ];
    for (const family of families) registry.registerMetric(asMetric(family));
    return { type: registry.contentType, text: await registry.metrics() };
  }

  /** Null where the serving thread does not answer soon: what it has counted can be read all the same. */
  private state(): Promise<ServerState | null> {
    return Promise.race([this.watcher.state(), sleep(STATE_MS, null, { ref: false })]);
  }
}

type Counted = readonly { readonly device: string; readonly counts: DeviceCounts }[];

/** The library asks a metric only for its name and its values, and so formats those of another thread too. */
function asMetric(family: Family): promClient.Metric {
  return { ...family, aggregator: 'sum', get: async () => family } as unknown as promClient.Metric;
}

function messageFamilies(counted: Counted): Family[] {
  const each = counted.flatMap(({ device, counts }) => counts.commands.map((one) => ({ device, ...one })));
  const counter = (name: string, help: string, value: (one: (typeof each)[number]) => number): Family => ({
    name,
    help,
    type: 'counter',
    values: each.map((one) => ({ labels: { device: one.device, command: one.command }, value: value(one) })),
  });
  return [
    counter('barter_messages_total', 'Messages of clients and their replies.', ({ latency }) => latency.count),
    counter('barter_message_errors_total', 'Replies with an error.', ({ errors }) => errors),
    counter('barter_received_bytes_total', 'Bytes of payloads of requests.', ({ bytesIn }) => bytesIn),
    counter('barter_sent_bytes_total', 'Bytes of payloads of replies.', ({ bytesOut }) => bytesOut),
    {
      name: 'barter_errnos_total',
      help: 'Replies with an error, by errno.',
      type: 'counter',
      values: counted.flatMap(({ device, counts }) =>
        [...counts.errnos].map(([errno, value]) => ({ labels: { device, errno: errnoName(errno) }, value })),
      ),
    },
    {
      name: 'barter_message_duration_seconds',
      help: 'Time from the arrival of a message to its reply.',
      type: 'histogram',
      values: each.flatMap(({ device, command, latency }) =>
        histogram('barter_message_duration_seconds', { device, command }, latency),
      ),
    },
  ];
}

function revokeFamily(counted: Counted): Family {
  const name = 'barter_revoke_duration_seconds';
  const values = counted.flatMap(({ device, counts }) =>
    counts.revokes.flatMap(({ cause, duration }) => histogram(name, { device, cause }, duration)),
  );
  return { name, help: 'Time from a trigger until no importer reaches the buffer.', type: 'histogram', values };
}

function limitFamily(hits: ReadonlyMap<string, number>): Family {
  return {
    name: 'barter_limit_hits_total',
    help: 'Requests and connections that met a limit of docs/limits.md.',
    type: 'counter',
    values: [...hits].map(([limit, value]) => ({ labels: { limit }, value })),
  };
}

function histogram(name: string, labels: Labels, { count, sumSeconds, buckets }: Histogram): Sample[] {
  let below = 0;
  const samples = BUCKETS_S.map((bound, i): Sample => {
    below += buckets[i];
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: below };
  });
  return [
    ...samples,
    { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels, value: sumSeconds },
    { metricName: `${name}_count`, labels, value: count },
  ];
}

function stateFamilies({ devices, buffers, moreBuffers, waits, limits }: ServerState): Family[] {
  const lent = devices.map(({ name }) => {
    const own = buffers.filter(({ device }) => device === name);
    return { name, live: own.length, revoked: own.filter(({ revoked }) => revoked).length };
  });
  const gauge = (name: string, help: string, values: Sample[]): Family => ({ name, help, type: 'gauge', values });
  return [
    gauge(
      'barter_client_connected',
      'Whether a client has the device.',
      devices.map(({ name, client }) => ({ labels: { device: name }, value: client === null ? 0 : 1 })),
    ),
    {
      name: 'barter_dma_bytes_total',
      help: 'Bytes that the device has moved by DMA.',
      type: 'counter',
      values: devices.map(({ name, dmaBytes }) => ({ labels: { device: name }, value: dmaBytes })),
    },
    gauge(
      'barter_buffers',
      'Live buffers of the device, by state.',
      lent.flatMap(({ name, live, revoked }) => [
        { labels: { device: name, state: 'lent' }, value: live - revoked },
        { labels: { device: name, state: 'revoked' }, value: revoked },
      ]),
    ),
    gauge('barter_buffers_unlisted', 'Live buffers that barter_buffers leaves out.', [
      { labels: {}, value: moreBuffers },
    ]),
    gauge('barter_longest_wait_seconds', 'How long the task that waits longest has waited.', [
      { labels: {}, value: (waits[0]?.ms ?? 0) / 1000 },
    ]),
    gauge(
      'barter_limit_used_ratio',
      'The largest part of each limit that anybody has used.',
      [...new Set(limits.map(({ limit }) => limit))].map((limit) => ({
        labels: { limit },
        value: Math.max(...limits.filter((use) => use.limit === limit).map(({ used, most }) => used / most)),
      })),
    ),
  ];
}

/** The process, by the names that all exporters use. */
function processFamilies(startedSeconds: number): Family[] {
  const { user, system } = process.cpuUsage();
  const one = (name: string, help: string, type: Family['type'], value: number): Family => ({
    name,
    help,
    type,
    values: [{ labels: {}, value }],
  });
  return [
    one('process_cpu_seconds_total', 'CPU time of the process.', 'counter', (user + system) / 1e6),
    one('process_resident_memory_bytes', 'Resident memory of the process.', 'gauge', process.memoryUsage.rss()),
    one('process_start_time_seconds', 'When the process started, since the epoch.', 'gauge', startedSeconds),
  ];
}
