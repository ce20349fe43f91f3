/** Clients that send anything, clients that never finish a handshake, and clients that are killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../../src/abi/errno.ts';
import type { OwnedFd } from '../../../src/linux/fd.ts';
import { tryConnectUnix } from '../../../src/linux/socket.ts';
import { FuzzConnection } from '../../fuzz/connection.ts';
import { FdPool } from '../../fuzz/fd-pool.ts';
import { Coverage } from '../../fuzz/fuzzer.ts';
import { type FuzzStep, randomSteps } from '../../fuzz/steps.ts';
import { type Actor, repeat, type Stage } from './actor.ts';

const MESSAGES = 400;
const HALF_OPEN = 80;
const VICTIMS = ['victim', 'victim-engine', 'victim-engine'];

class Fuzzing {
  private readonly stage: Stage;
  private readonly pool = new FdPool();
  private readonly connections: (FuzzConnection | null)[] = VICTIMS.map(() => null);

  constructor(stage: Stage) {
    this.stage = stage;
  }

  run(step: FuzzStep): void {
    if (step.kind === 'bystander') return;
    const connection = this.connections[step.client];
    if (step.kind === 'connect') this.connect(step);
    else if (connection === null) return;
    else if (step.kind === 'message') connection.send(step, this.pool);
    else if (step.kind === 'damage') connection.damage(step, this.pool);
    else {
      if (step.kind === 'look') connection.check(this.stage.random, this.pool);
      if (step.kind === 'look' && !connection.ended) return;
      connection.close();
      this.connections[step.client] = null;
    }
  }

  close(): void {
    for (const connection of this.connections) connection?.close();
    this.pool.close();
  }

  private connect({ client, version, prepare }: FuzzStep & { kind: 'connect' }): void {
    if (this.connections[client] !== null) return;
    const device = VICTIMS[client];
    const connection = new FuzzConnection(this.stage.path(device), device === 'victim', new Coverage(), {});
    this.connections[client] = connection;
    if (version !== 'none') connection.version(version === 'small');
    if (prepare) connection.prepare(this.pool);
  }
}

async function fuzz(stage: Stage): Promise<void> {
  const fuzzing = new Fuzzing(stage);
  try {
    for (const step of randomSteps(stage.random, MESSAGES)) {
      fuzzing.run(step);
      if (step.kind === 'look') await sleep(1);
      if (!stage.goesOn()) break;
    }
  } finally {
    fuzzing.close();
  }
}

async function halfOpen(stage: Stage): Promise<void> {
  const sockets: OwnedFd[] = [];
  try {
    for (let i = 0; i < HALF_OPEN; i++) {
      const socket = tryConnectUnix(stage.path('victim-engine'));
      if (socket !== null) sockets.push(socket);
    }
    await sleep(stage.random.below(50));
  } finally {
    for (const socket of sockets) socket.close();
  }
}

/** churn.c kills its own clients at any moment. */
async function churn(stage: Stage): Promise<void> {
  const device = stage.random.pick(['killed', 'killed-engine']);
  const seed = String(stage.random.below(1000));
  const [status] = await once(spawn(`${stage.folder}/../churn`, [stage.path(device), '30', seed]), 'exit');
  // 1: the server had no place for a connection at that moment.
  if (status !== 0) throw new Errno('ECONNREFUSED', `churn ended with ${status}`);
}

export const hostile: Actor = async (stage) => {
  await Promise.all([
    repeat(stage, 'fuzzed', () => fuzz(stage)),
    repeat(stage, 'half open', () => halfOpen(stage)),
    repeat(stage, 'killed clients', () => churn(stage)),
  ]);
};
