/**
 * Fuzzes the server's state machine: sequences of messages with descriptors on several connections, all on one thread.
 * After every batch it compares each reply with its request and with the client's model (model.ts). It also checks a
 * bystander on another device. A run consists of epochs, each with its own server and seed, so the steps of one epoch
 * alone repeat its finding.
 */
import { openFds } from '../linux/open-fds.ts';
import { InProcessServer } from '../vfio-user/in-process.ts';
import { Bystander } from './bystander.ts';
import type { Sabotage } from './connection.ts';
import { FuzzConnection } from './connection.ts';
import { FdPool } from './fd-pool.ts';
import { Coverage, FuzzFinding, type FuzzRun } from './fuzzer.ts';
import { FuzzRandom } from './random.ts';
import { shortest } from './shrink.ts';
import { CLIENTS, type FuzzStep, ROUNDS, randomSteps, stepText } from './steps.ts';

const EPOCH_MESSAGES = 20_000;
const MAX_TURN_MS = 3000;

export async function fuzzServer(
  { random, messages, coverage, seed }: FuzzRun,
  sabotage: Sabotage = {},
): Promise<void> {
  for (let sent = 0; sent < messages; sent += EPOCH_MESSAGES) {
    const epochSeed = random.bits() >>> 0;
    const steps = randomSteps(new FuzzRandom(epochSeed), Math.min(EPOCH_MESSAGES, messages - sent));
    try {
      runSteps(steps, coverage, sabotage);
    } catch (error) {
      const run = (some: readonly FuzzStep[]) => runSteps(some, new Coverage(), sabotage);
      const few = await shortest(steps, error as Error, run, { asText: stepText });
      throw new FuzzFinding(`${(error as Error).message}\nseed ${seed}; ${few}`);
    }
    coverage.count('server: epochs');
  }
}

/** Runs steps against their own server. Throws FuzzFinding or the server's error; leaves nothing behind. */
export function runSteps(steps: readonly FuzzStep[], coverage: Coverage, sabotage: Sabotage = {}): void {
  const before = openFds().length;
  const world = new FuzzWorld(coverage, sabotage);
  try {
    for (const step of steps) world.run(step);
  } finally {
    world.close();
  }
  world.checkLog();
  const left = openFds().length - before;
  if (left !== 0) throw new FuzzFinding(`${left} descriptors are left`);
}

class FuzzWorld {
  private readonly served = new InProcessServer();
  private readonly pool = new FdPool();
  private readonly bystander: Bystander;
  private readonly connections: (FuzzConnection | null)[] = CLIENTS.map(() => null);
  /** The clients' answers to the server: the same for the same steps. */
  private readonly random = new FuzzRandom(1);
  private readonly coverage: Coverage;
  private readonly sabotage: Sabotage;

  constructor(coverage: Coverage, sabotage: Sabotage) {
    this.coverage = coverage;
    this.sabotage = sabotage;
    this.bystander = new Bystander(this.served);
  }

  run(step: FuzzStep): void {
    if (step.kind === 'bystander') this.bystander.check();
    else if (step.kind === 'connect') this.connect(step);
    else {
      const connection = this.connections[step.client];
      if (connection === null) return;
      if (step.kind === 'message') connection.send(step, this.pool);
      else if (step.kind === 'damage') connection.damage(step, this.pool);
      else if (step.kind === 'look') this.look(connection, step.client, step.rounds);
      else this.leave(connection, step.client, step.rounds);
    }
  }

  close(): void {
    for (const connection of this.connections) connection?.close();
    this.bystander.close();
    this.pool.close();
    this.turn(1000);
    this.served.close();
  }

  /** The log names a dropped client, and a defect too. */
  checkLog(): void {
    for (const line of this.served.log.splice(0)) {
      if (!/client dropped: E/.test(line) || line.includes('\n')) throw new FuzzFinding(`the server says: ${line}`);
    }
  }

  private connect({ client, version, prepare }: FuzzStep & { kind: 'connect' }): void {
    if (this.connections[client] !== null) return;
    const device = CLIENTS[client];
    const connection = new FuzzConnection(this.served.path(device), device === 'lender', this.coverage, this.sabotage);
    this.connections[client] = connection;
    this.coverage.count('server: connections');
    if (version !== 'none') connection.version(version === 'small');
    if (prepare) connection.prepare(this.pool);
  }

  private look(connection: FuzzConnection, client: number, rounds: number): void {
    this.turn(rounds);
    connection.check(this.random, this.pool);
    if (connection.ended) this.leave(connection, client, ROUNDS);
    this.checkLog();
  }

  private leave(connection: FuzzConnection, client: number, rounds: number): void {
    connection.close();
    this.connections[client] = null;
    this.turn(rounds);
  }

  private turn(most: number): void {
    const started = performance.now();
    for (let i = 0; i < most && this.served.server.loop.turn(0); i++) {}
    const took = performance.now() - started;
    if (took > MAX_TURN_MS) throw new FuzzFinding(`the server was busy for ${took.toFixed(0)} ms`);
  }
}
