/**
 * Fuzzes the client against a server that mostly lies (lying-server.ts). A run consists of steps; the seed of each
 * decides what the client asks and how the server answers. Each call ends soon, with a result or one clear error, and
 * leaves nothing behind. What an honest reply brings is right, also after lies from which a connection recovers.
 */
import { readFileSync } from 'node:fs';
import { Errno } from '../../src/abi/errno.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { LostError } from '../../src/vfio-user/client/lost.ts';
import { openFds } from '../linux/open-fds.ts';
import { CLIENT_OPS, type ClientSabotage } from './client-steps.ts';
import { Coverage, FuzzFinding, type FuzzRun } from './fuzzer.ts';
import { LyingServer } from './lying-server.ts';
import { FuzzRandom } from './random.ts';
import { shrink } from './shrink.ts';

const EPOCH_STEPS = 2000;
/** Short, because a server's silence takes it in full. */
const TIMEOUT_MS = 4;
const MAX_CALL_MS = 3000;
const MAX_SHRINK_MS = 20_000;
const NAMES = Object.keys(CLIENT_OPS);

export interface ClientStep {
  kind: 'client';
  op: string;
  seed: number;
}

export function fuzzClient({ random, messages, coverage, seed }: FuzzRun, sabotage: ClientSabotage = {}): void {
  for (let sent = 0; sent < messages; sent += EPOCH_STEPS) {
    const steps = Array.from({ length: Math.min(EPOCH_STEPS, messages - sent) }, (): ClientStep => {
      const op = random.chance(12) ? 'connect' : random.pick(NAMES);
      return { kind: 'client', op, seed: random.bits() >>> 0 };
    });
    try {
      runClientSteps(steps, coverage, sabotage);
    } catch (error) {
      throw new FuzzFinding(`${(error as Error).message}\n${shortest(steps, error as Error, sabotage, seed)}`);
    }
    coverage.count('client: epochs');
  }
}

function shortest(steps: readonly ClientStep[], found: Error, sabotage: ClientSabotage, seed: number): string {
  const kind = (error: Error) => error.message.replace(/0x[0-9a-f]+|\d+/g, 'N');
  const fails = (some: readonly ClientStep[]) => {
    try {
      runClientSteps(some, new Coverage(), sabotage);
      return false;
    } catch (error) {
      return kind(error as Error) === kind(found);
    }
  };
  const least = shrink(steps, fails, MAX_SHRINK_MS);
  const lines = least.map((step) => `  ${JSON.stringify(step)}`);
  return `seed ${seed}; ${least.length} of ${steps.length} steps suffice (test/fuzz/found/):\n${lines.join('\n')}`;
}

/** Runs steps against their own server. Throws FuzzFinding or the client's defect; leaves nothing behind. */
export function runClientSteps(steps: readonly ClientStep[], coverage: Coverage, sabotage: ClientSabotage = {}): void {
  const before = openFds().length;
  const world = new LyingWorld(coverage, sabotage);
  try {
    for (const step of steps) world.run(step);
  } finally {
    world.close();
  }
  const left = openFds().length - before;
  if (left !== 0) throw new FuzzFinding(`${left} descriptors are left`);
  const maps = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('lying'));
  if (maps.length > 0) throw new FuzzFinding(`${maps.length} mappings are left`);
}

class LyingWorld {
  private readonly server: LyingServer;
  private readonly coverage: Coverage;
  private readonly sabotage: ClientSabotage;
  private client: VfioUserClient | null = null;

  constructor(coverage: Coverage, sabotage: ClientSabotage) {
    this.coverage = coverage;
    this.sabotage = sabotage;
    this.server = new LyingServer(new FuzzRandom(0), coverage);
  }

  run({ op, seed }: ClientStep): void {
    this.server.random = new FuzzRandom(seed);
    this.server.lied = false;
    if (op === 'connect' || this.client === null) this.take('connect', () => this.connect(new FuzzRandom(seed)));
    const { client, server, sabotage } = this;
    if (op === 'connect' || client === null) return;
    server.lied = false;
    const random = new FuzzRandom(seed ^ 0x5eed);
    const isHonest = () => !server.lied && !server.isWild;
    this.take(op, () => CLIENT_OPS[op]({ client, memory: server.device.memory, random, sabotage, isHonest }));
  }

  close(): void {
    this.client?.close();
    this.server.close();
  }

  private connect(random: FuzzRandom): void {
    this.client?.close();
    this.client = null;
    this.server.hangUp();
    const whileWaiting = () => this.server.turn();
    this.client = new VfioUserClient(this.server.path, {
      timeoutMs: TIMEOUT_MS,
      twinSocket: random.chance(3),
      whileWaiting,
    });
    const bytes = Buffer.alloc(8192, 1);
    this.client.memory = {
      read: (address, into) => void into.set(bytes.subarray(0, into.length), 0 * address),
      write: () => {},
    };
  }

  /** Makes a call, and judges its end. */
  private take(op: string, call: () => void): void {
    const began = performance.now();
    let outcome = 'ok';
    try {
      call();
    } catch (error) {
      outcome = this.judge(op, error);
    }
    const took = performance.now() - began;
    if (took > MAX_CALL_MS) throw new FuzzFinding(`${op} took ${took.toFixed(0)} ms`);
    this.coverage.outcome(op, outcome);
  }

  private judge(op: string, error: unknown): string {
    if (!(error instanceof Errno)) {
      const { name, message } = error as Error;
      throw new FuzzFinding(`${op}: ${name}: ${message}`);
    }
    if (/\n|undefined|NaN|\[object/.test(error.message)) throw new FuzzFinding(`${op}: not in words: ${error.message}`);
    const { lied, isWild, device } = this.server;
    // A wild stream mostly ends in silence, and each silence takes real time.
    if (error instanceof LostError || isWild) {
      this.client?.close();
      this.client = null;
    }
    // A slow machine makes an honest server late.
    const mayFail = lied || isWild || device.isOdd || error.code === 'ETIMEDOUT';
    if (!mayFail && !HONEST_ERRORS.has(`${op} ${error.code}`)) {
      // Without the socket's path, which differs in each run.
      throw new FuzzFinding(`${op}: an honest reply is ${error.message.replaceAll(this.server.path, 'S')}`);
    }
    return error.code;
  }
}

/** What a client may be told by an honest server: a mapping outside of the areas, or of a file that was cut off. */
const HONEST_ERRORS: ReadonlySet<string> = new Set(['mapRegion EINVAL', 'mapRegion EFAULT', 'mapRegion EACCES']);
