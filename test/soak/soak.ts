/**
 * A soak: rounds in which everything happens to one server at once. Between two rounds all clients but a bystander are
 * gone, and the server may hold no more than its plateau (plateau.ts).
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { missingStages } from '../../lab/host/prepare.ts';
import { killGroup } from '../cli/barter.ts';
import { FuzzRandom } from '../fuzz/random.ts';
import { SoakBystander } from './bystander.ts';
import { Plateau, warmUpRounds } from './plateau.ts';
import { SoakServer } from './server.ts';
import { largest, QUANTITIES, type Usage, usageOf } from './usage.ts';

export interface SoakOptions {
  seconds: number;
  roundSeconds: number;
  /** How long a server may take to let go of what its last clients had. */
  settleMs: number;
  seed: number;
  actors: readonly string[];
  /** Quantities that the server is made to leak. */
  leaks: readonly string[];
  print(line: string): void;
}

/** A line a minute. A short soak has six rounds. */
export function roundSeconds(seconds: number): number {
  return Math.min(50, seconds / 6);
}

const ACTORS = ['lending', 'copying', 'guests', 'moving', 'hostile', 'servers'] as const;

/** The actors that this machine can run; prints which one it leaves out. */
export function availableActors(print: (line: string) => void): readonly string[] {
  const missing = missingStages();
  if (missing.length === 0) return ACTORS;
  print(`without QEMU: the lab is not prepared (${missing.join(', ')}): barter lab prepare`);
  return ACTORS.filter((name) => name !== 'guests');
}

const ACTOR = fileURLToPath(new URL('./actors/main.ts', import.meta.url));
/** One in so many actors of a round is killed at a random moment. */
const KILLED_ONE_IN = 4;
/** How much longer than its round an actor may take on a busy machine. */
const MAX_LATE_MS = 120_000;
export const MAX_SETTLE_MS = 30_000;
/** A soak goes on for a round after its first fault, to show more of it. */
const MAX_FAULTY_ROUNDS = 2;
const MAX_WARM_UP_SETTLE_MS = 5_000;
const SETTLE_MS = 1000;
const SAMPLE_MS = 500;

const C_PROGRAMS = { churn: '../vfio-user/churn.c', importer: '../../examples/importer.c' };

function compile(folder: string): void {
  for (const [name, source] of Object.entries(C_PROGRAMS)) {
    const path = fileURLToPath(new URL(source, import.meta.url));
    const { status, error, stderr } = spawnSync(process.env.CC ?? 'cc', ['-O1', '-o', join(folder, name), path], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`a soak needs a C compiler: ${error?.message ?? stderr}`);
  }
}

class Soak {
  private readonly options: SoakOptions;
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-soak-'));
  private readonly random: FuzzRandom;
  private readonly rounds: number;
  private readonly plateau: Plateau;
  private readonly done = new Map<string, number>();
  private readonly faults: string[] = [];
  private readonly started = performance.now();
  private killed = 0;

  constructor(options: SoakOptions) {
    this.options = options;
    this.random = new FuzzRandom(options.seed);
    this.rounds = Math.ceil(options.seconds / options.roundSeconds);
    this.plateau = new Plateau(warmUpRounds(this.rounds));
  }

  /** Returns the faults: one sentence each. */
  async run(): Promise<string[]> {
    const socketDir = join(this.folder, 'sockets');
    compile(this.folder);
    const server = await SoakServer.start(socketDir, this.options.leaks);
    try {
      const bystander = await SoakBystander.connect(join(socketDir, 'bystander.sock'));
      let faulty = 0;
      for (let i = 0; i < this.rounds && faulty < MAX_FAULTY_ROUNDS && server.isAlive; i++) {
        await this.round(server, bystander);
        if (this.faults.length > 0) faulty += 1;
      }
      if (server.isAlive) await bystander.close();
      const status = await server.stop();
      if (status !== 0) this.faults.push(`the server ended with ${status}`);
      const left = readdirSync(socketDir);
      if (left.length > 0) this.faults.push(`sockets are left: ${left.join(', ')}`);
    } finally {
      server.kill();
      rmSync(this.folder, { recursive: true, force: true });
    }
    this.options.print(this.summary());
    return this.faults;
  }

  private async round(server: SoakServer, bystander: SoakBystander): Promise<void> {
    let peak = usageOf(server.pid);
    let isOver = false;
    const sampling = (async () => {
      for (; !isOver && server.isAlive; await sleep(SAMPLE_MS)) peak = largest(peak, usageOf(server.pid));
    })();
    const acts = this.options.actors.map((name) => this.act(name));
    await Promise.race([bystander.failure, Promise.all(acts)]);
    isOver = true;
    await sampling;
    if (!server.isAlive) {
      this.faults.push(`the server is gone: ${server.complaints.join('\n')}`);
      return;
    }
    const quiet = await this.settled(server);
    const warmUp = this.plateau.isWarm ? '' : '; warm-up';
    this.faults.push(...this.plateau.add(quiet), ...server.complaints.map((line) => `the server says: ${line}`));
    const { checks, worstMs } = bystander.take();
    const minutes = (performance.now() - this.started) / 60_000;
    const numbers = QUANTITIES.map((each) => `${each} ${quiet[each]} (${peak[each]})`).join(', ');
    this.options.print(
      `${minutes.toFixed(1)} min: ${numbers}; bystander ${checks} checks, worst ${worstMs.toFixed(0)} ms; ` +
        `${server.logLines} lines of log${warmUp}`,
    );
  }

  /** Waits until the server holds no more than its plateau, at most as long as it may take. */
  private async settled(server: SoakServer): Promise<Usage> {
    let usage = usageOf(server.pid);
    const { settleMs } = this.options;
    const most = this.plateau.isWarm ? settleMs : Math.min(settleMs, MAX_WARM_UP_SETTLE_MS);
    for (const end = performance.now() + most; performance.now() < end; ) {
      const before = usage;
      await sleep(SETTLE_MS);
      usage = usageOf(server.pid);
      // The warm-up has no plateau yet: the server rests when nothing changes.
      if (this.plateau.isWarm ? this.plateau.isSettled(usage) : usage.fds === before.fds) break;
    }
    return usage;
  }

  /** Runs one actor for a round in its own process. One in four is killed before its end. */
  private async act(name: string): Promise<void> {
    const seconds = this.options.roundSeconds;
    const folder = join(this.folder, name);
    mkdirSync(folder, { recursive: true });
    const seed = this.random.bits();
    const args = ['--conditions=barter-source', '--import', 'tsx', ACTOR, name, join(this.folder, 'sockets'), folder];
    const child = spawn(process.execPath, [...args, String(seed), String(seconds)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    child.stdout.on('data', (part: Buffer) => {
      output += part;
    });
    let errors = '';
    child.stderr.on('data', (part: Buffer) => {
      errors = (errors + part).slice(-4000);
    });
    const isToBeKilled = this.random.chance(KILLED_ONE_IN);
    const life = isToBeKilled ? 1000 * seconds * (0.3 + 0.7 * this.random.fraction()) : 1000 * seconds + MAX_LATE_MS;
    const timer = setTimeout(() => killGroup(child), life);
    const [status, signal] = await once(child, 'close');
    clearTimeout(timer);
    // Its children, such as QEMU, may still run.
    killGroup(child);
    if (signal !== null) this.killed += 1;
    if (signal !== null && !isToBeKilled) this.faults.push(`${name} does not end (seed ${seed})\n${errors}`);
    else if (signal === null && status !== 0) this.faults.push(`${name} failed (seed ${seed}):\n${errors}`);
    if (status === 0) this.count(JSON.parse(output));
  }

  private count(done: Record<string, number>): void {
    for (const [what, times] of Object.entries(done)) this.done.set(what, (this.done.get(what) ?? 0) + times);
  }

  private summary(): string {
    const done = [...this.done].sort(([a], [b]) => (a < b ? -1 : 1)).map(([what, times]) => `  ${what}: ${times}`);
    return ['done by those that were not killed:', ...done, `  killed actors: ${this.killed}`].join('\n');
  }
}

export function runSoak(options: SoakOptions): Promise<string[]> {
  return new Soak(options).run();
}
