/**
 * Round trips of a served device against a bare C echo server, and against libvfio-user if LIBVFIO_USER names a built
 * checkout. Client and references are C (vfio-user.c), so that only the servers differ.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { median } from '../src/demo/median.ts';
import { packageFile } from '../src/linux/package-file.ts';
import { quietestLatency } from './latency.ts';
import type { BenchResult } from './result.ts';
import { benchMemory } from './vfio-user-memory.ts';

/** The two sides alternate, so that other load slows both alike. The median counts. */
const RUNS = 5;
const CPU = '0';
const ECHO_BAR = 0.85;
const LIBVFIO_USER_BAR = 1;
/** `barter serve` listens within this time of its start. */
const START_MS = 250;

interface Measure {
  name: string;
  op: 'read' | 'write' | 'posted';
  bytes: number;
  messages: number;
}

const MEASURES: readonly Measure[] = [
  { name: 'read-4B', op: 'read', bytes: 4, messages: 40_000 },
  { name: 'read-4KiB', op: 'read', bytes: 4096, messages: 30_000 },
  { name: 'write-4B', op: 'write', bytes: 4, messages: 40_000 },
  { name: 'write-4B-posted', op: 'posted', bytes: 4, messages: 160_000 },
];

/** Messages per second, and percentiles of one message in microseconds. */
interface Rate {
  perSecond: number;
  p50Us: number;
  p99Us: number;
}

/** A server that a bench starts: its command and its socket. */
interface BenchServer {
  name: string;
  command: (folder: string) => string[];
  socket: (folder: string) => string;
}

const BARTER: BenchServer = {
  name: 'barter',
  command: (folder) => [
    process.execPath,
    packageFile('bin/barter.cjs'),
    'serve',
    packageFile('examples/two-peers.yaml'),
    '--socket-dir',
    folder,
  ],
  socket: (folder) => join(folder, 'lender.sock'),
};

/** The ratios of Barter's rate to each reference's, pinned to one CPU and unpinned; then memory, maps and the start. */
export async function benchVfioUser(): Promise<BenchResult[]> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-bench-'));
  try {
    const tool = compile(folder, 'vfio-user.c', []);
    const references = [echoServer(tool)];
    const library = process.env.LIBVFIO_USER;
    if (library !== undefined) references.push(libraryServer(folder, library));
    const results: BenchResult[] = [];
    for (const cpu of [CPU, null]) {
      const served = await start([...pinnedTo(tool, cpu), ...BARTER.command(folder)]);
      for (const measure of MEASURES) results.push(...(await compare(tool, measure, cpu, folder, references)));
      await end(served);
    }
    results.push(...benchMemory(), await quietestLatency('start', RUNS, START_MS, startMs));
    return results;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function compile(folder: string, source: string, options: readonly string[]): string {
  const out = join(folder, source.replace(/\.c$/, ''));
  const compiler = process.env.CC ?? 'cc';
  const { status, stderr, error } = spawnSync(
    compiler,
    ['-O2', '-o', out, packageFile(`bench/${source}`), ...options],
    {
      encoding: 'utf8',
    },
  );
  if (status !== 0) throw new Error(`${compiler} ${source}: ${error?.message ?? stderr}; the bench needs a C compiler`);
  return out;
}

function echoServer(tool: string): BenchServer {
  return {
    name: 'c-echo',
    command: (folder) => [tool, 'echo', join(folder, 'echo.sock')],
    socket: (folder) => join(folder, 'echo.sock'),
  };
}

/** A device of libvfio-user's library with one BAR of memory. */
function libraryServer(folder: string, checkout: string): BenchServer {
  const library = ['build/lib', 'build/release/lib', 'build/debug/lib', 'build']
    .map((place) => join(checkout, place))
    .find((place) => existsSync(join(place, 'libvfio-user.so')));
  if (library === undefined)
    throw new Error(`LIBVFIO_USER=${checkout}: there is no build/lib/libvfio-user.so; build it`);
  const options = [`-I${join(checkout, 'include')}`, `-L${library}`, `-Wl,-rpath,${library}`, '-lvfio-user'];
  const server = compile(folder, 'libvfio-user-server.c', options);
  const socket = (where: string) => join(where, 'library.sock');
  return { name: 'libvfio-user', command: (where) => [server, socket(where)], socket };
}

async function compare(
  tool: string,
  measure: Measure,
  cpu: string | null,
  folder: string,
  references: readonly BenchServer[],
): Promise<BenchResult[]> {
  const rates = new Map<string, Rate[]>();
  for (let run = 0; run < RUNS; run++) {
    for (const server of [BARTER, ...references]) {
      const own = server === BARTER ? null : await start([...pinnedTo(tool, cpu), ...server.command(folder)]);
      const rate = measureOnce(tool, server.socket(folder), measure, cpu);
      if (own !== null) await end(own);
      if (own !== null) rmSync(server.socket(folder), { force: true });
      rates.set(server.name, [...(rates.get(server.name) ?? []), rate]);
    }
  }
  const value = medianOf(rates.get(BARTER.name)!);
  const name = `${measure.name}-${cpu === null ? 'free' : 'pinned'}`;
  return references.map((reference) => {
    const other = medianOf(rates.get(reference.name)!);
    // A wake-up on another CPU costs whatever the machine makes it cost, so unpinned runs have no bar.
    const bar = cpu === null ? 0 : reference.name === 'c-echo' ? ECHO_BAR : LIBVFIO_USER_BAR;
    return {
      name,
      value: value.perSecond,
      unit: 'messages/s',
      reference: reference.name,
      ratio: medianRatio(rates.get(BARTER.name)!, rates.get(reference.name)!),
      bar,
      referenceValue: other.perSecond,
      p50Us: value.p50Us,
      p99Us: value.p99Us,
      referenceP50Us: other.p50Us,
      referenceP99Us: other.p99Us,
    };
  });
}

function pinnedTo(tool: string, cpu: string | null): string[] {
  return cpu === null ? [] : [tool, 'pin', cpu];
}

export function measureOnce(tool: string, socket: string, measure: Measure, cpu: string | null): Rate {
  const { op, bytes, messages } = measure;
  const client = [...pinnedTo(tool, cpu), tool, 'client', socket, op, String(bytes), String(messages)];
  const text = execFileSync(client[0], client.slice(1), { encoding: 'utf8' });
  const [perSecond, p50Us, p99Us] = text.trim().split(' ').map(Number);
  return { perSecond, p50Us, p99Us };
}

export async function start(command: readonly string[]): Promise<ChildProcess> {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const _line of createInterface({ input: child.stdout! })) return child;
  throw new Error(`${command.join(' ')} ended before it was ready`);
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}

function medianOf(rates: readonly Rate[]): Rate {
  return [...rates].sort((a, b) => a.perSecond - b.perSecond)[Math.floor(rates.length / 2)];
}

/** The median ratio of paired runs. Load that slows one of a pair mostly slows the other too. */
function medianRatio(rates: readonly Rate[], others: readonly Rate[]): number {
  return median(rates.map(({ perSecond }, i) => perSecond / others[i].perSecond));
}

/** The time from the start of the process to the line that says that every socket listens. */
async function startMs(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-bench-'));
  const began = performance.now();
  const child = await start(BARTER.command(folder));
  const ms = performance.now() - began;
  await end(child);
  rmSync(folder, { recursive: true, force: true });
  return ms;
}
