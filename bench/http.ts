/**
 * What the live page costs the clients of a server: messages per second with `--http`, with nobody connected and with a
 * page that looks, against a server without it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { median } from '../src/demo/median.ts';
import { packageFile } from '../src/linux/package-file.ts';
import type { BenchResult } from './result.ts';
import { compile, end, measureOnce } from './vfio-user.ts';

/** The servers take turns, so that other load slows all alike. The median of the ratios counts. */
const RUNS = 75;
const MEASURE = { name: 'read-4B', op: 'read', bytes: 4, messages: 8_000 } as const;
/** Nobody looks: within noise. */
const UNWATCHED_BAR = 0.97;
const WATCHED_BAR = 0.97;

interface MeasuredServer {
  readonly child: ChildProcess;
  readonly socket: string;
  readonly http: string | undefined;
}

export async function benchHttp(): Promise<BenchResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-bench-'));
  const servers: MeasuredServer[] = [];
  let page: IncomingMessage | null = null;
  try {
    const tool = compile(folder, 'vfio-user.c', []);
    for (const http of [[], ['--http', '0'], ['--http', '0']]) {
      servers.push(await startServer(mkdtempSync(join(folder, 'served-')), http));
    }
    page = await look(servers[2].http!);
    const rates: number[][] = [];
    for (let run = 0; run < RUNS; run++) {
      // Each goes first as often as the others.
      const order = servers.map((_, i) => (i + run) % servers.length);
      const round: number[] = [];
      for (const i of order) round[i] = measureOnce(tool, servers[i].socket, MEASURE, null).perSecond;
      rates.push(round);
    }
    return [result('nobody-looks', rates, 1, UNWATCHED_BAR), result('page-open', rates, 2, WATCHED_BAR)];
  } finally {
    page?.destroy();
    for (const { child } of servers) await end(child);
    rmSync(folder, { recursive: true, force: true });
  }
}

function result(name: string, rates: readonly number[][], at: number, bar: number): BenchResult {
  return {
    name,
    value: median(rates.map((round) => round[at])),
    unit: 'messages/s',
    reference: 'without --http',
    ratio: median(rates.map((round) => round[at] / round[0])),
    bar,
    referenceValue: median(rates.map((round) => round[0])),
  };
}

async function startServer(folder: string, options: readonly string[]): Promise<MeasuredServer> {
  const machine = packageFile('examples/two-peers.yaml');
  const args = [packageFile('bin/barter.cjs'), 'serve', machine, '--socket-dir', folder, '--json', ...options];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) {
    const { devices, http } = JSON.parse(line) as { devices: { socket: string }[]; http?: string };
    return { child, socket: devices[0].socket, http };
  }
  throw new Error('barter serve ended before it was ready');
}

/** Takes the page's stream of events, as a browser does. */
async function look(url: string): Promise<IncomingMessage> {
  const [response] = (await once(get(`${url}events`), 'response')) as [IncomingMessage];
  return response.resume();
}
