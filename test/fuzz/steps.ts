/** A client's actions on a server as data, so that a run with a finding can be repeated, reduced and printed. */
import { VFIO_USER_COMMAND_NAMES } from '../../src/abi/vfio-user.ts';
import { type FdKind, randomMessage } from './messages.ts';
import type { FuzzRandom } from './random.ts';

/** The third is a second client of the second's device and negotiates small limits. */
export const CLIENTS = ['lender', 'borrower', 'borrower'] as const;
const BATCH = 24;

export type FuzzStep =
  /**
   * Connects, unless the client is connected; says which limits it negotiates, and whether it turns memory on and maps
   * it.
   */
  | { kind: 'connect'; client: number; version: 'whole' | 'small' | 'none'; prepare: boolean }
  | { kind: 'message'; client: number; command: number; payload: Buffer; fds: readonly FdKind[]; noReply: boolean }
  /** A message with a false header or a missing part. Everything after it is meaningless. */
  | { kind: 'damage'; client: number; command: number; payload: Buffer; fds: readonly FdKind[]; lie: Lie }
  /** The server runs this many rounds, then the client reads its replies. */
  | { kind: 'look'; client: number; rounds: number }
  | { kind: 'leave'; client: number; rounds: number }
  | { kind: 'bystander' };

export interface Lie {
  size: number;
  flags: number;
  cutAt: number;
  copiesOfFd: number;
}

/** Rounds of the server's loop: an engine that copies gigabytes continues in the next round. */
export const ROUNDS = 40;

/** Steps with `messages` messages in total. */
export function randomSteps(random: FuzzRandom, messages: number): FuzzStep[] {
  const steps: FuzzStep[] = [];
  // A strict client wants a reply to everything and sends true headers, so all its replies can be checked.
  const strict = CLIENTS.map(() => random.chance(2));
  for (let sent = 0, batches = 0; sent < messages; batches++) {
    const client = random.chance(30) ? 2 : random.below(2);
    const version = random.chance(50) ? 'none' : random.chance(20) ? 'small' : 'whole';
    steps.push({ kind: 'connect', client, version, prepare: !random.chance(5) });
    for (let n = random.below(BATCH); n >= 0; n--, sent++) {
      const { command, payload, fds } = randomMessage(random);
      if (!strict[client] && random.chance(500)) {
        steps.push({ kind: 'damage', client, command, payload, fds, lie: randomLie(random) });
      } else {
        steps.push({ kind: 'message', client, command, payload, fds, noReply: !strict[client] && random.chance(6) });
      }
    }
    steps.push({ kind: 'look', client, rounds: random.chance(10) ? 1 : ROUNDS });
    // The third client takes the device from the second for one batch.
    if (random.chance(client === 2 ? 1 : 60)) {
      steps.push({ kind: 'leave', client, rounds: random.chance(4) ? 0 : ROUNDS });
      strict[client] = random.chance(2);
    }
    if (batches % 40 === 0) steps.push({ kind: 'bystander' });
  }
  return steps;
}

function randomLie(random: FuzzRandom): Lie {
  return {
    size: random.edge() >>> 0,
    flags: random.edge() >>> 0,
    cutAt: random.chance(2) ? 0 : 1 + random.below(100),
    copiesOfFd: random.chance(4) ? 20 : 1,
  };
}

/** Steps as lines, for people and for `npm run fuzz -- --replay`. */
export function stepText(step: FuzzStep): string {
  if (step.kind !== 'message' && step.kind !== 'damage') return JSON.stringify(step);
  const { payload, command, ...rest } = step;
  const name = VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`;
  return JSON.stringify({ ...rest, command, payload: payload.toString('hex') }).replace(/\}$/, `,"name":"${name}"}`);
}

export function parseStep(line: string): FuzzStep {
  const step = JSON.parse(line) as FuzzStep & { payload?: string };
  return (step.payload === undefined ? step : { ...step, payload: Buffer.from(step.payload, 'hex') }) as FuzzStep;
}
