/**
 * Fuzzes the client against a server that mostly lies (lying-server.ts). A run consists of steps; the seed of each
 * decides what the client asks and how the server answers. Each call ends soon, with a result or one clear error, and
 * leaves nothing behind. What an honest reply brings is right, also after lies from which a connection recovers.
 */
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { openFds } from '../linux/open-fds.ts';
import { CLIENT_OPS, type ClientSabotage } from './client-steps.ts';
import type { Coverage, FuzzRun } from './fuzzer.ts';
import { CallClock, demandNothingLeft, fuzzLies, judge, serveMemory } from './lied-to.ts';
import { LyingServer } from './lying-server.ts';
import { FuzzRandom } from './random.ts';

const EPOCH_STEPS = 2000;
/** Short, because a server's silence takes it in full. */
const TIMEOUT_MS = 4;

export interface ClientStep {
  kind: 'client';
  op: string;
  seed: number;
}

export function fuzzClient(run: FuzzRun, sabotage: ClientSabotage = {}): Promise<void> {
  const step = (op: string, seed: number): ClientStep => ({ kind: 'client', op, seed });
  return fuzzLies(run, Object.keys(CLIENT_OPS), { epochSteps: EPOCH_STEPS, tries: 1 }, step, (steps, coverage) =>
    runClientSteps(steps, coverage, sabotage),
  );
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
  demandNothingLeft(before);
}

class LyingWorld {
  private readonly server: LyingServer;
  private readonly coverage: Coverage;
  private readonly sabotage: ClientSabotage;
  private readonly clock = new CallClock();
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
    serveMemory(this.client);
  }

  /** Makes a call, and judges its end. */
  private take(op: string, call: () => void): void {
    this.clock.begin();
    let outcome = 'ok';
    try {
      call();
    } catch (error) {
      outcome = this.judge(op, error);
    }
    this.clock.demandShort(op);
    this.coverage.outcome(op, outcome);
  }

  private judge(op: string, error: unknown): string {
    const { code, isLost } = judge(op, error, this.server);
    if (isLost) {
      this.client?.close();
      this.client = null;
    }
    return code;
  }
}
