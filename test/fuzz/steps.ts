/** What a client does to a server, as data: a run that found something can be repeated, cut down, and printed. */
import { VFIO_USER_COMMAND_NAMES } from '../../src/abi/vfio-user.ts';
import { type FdKind, randomMessage } from './messages.ts';
import type { FuzzRandom } from './random.ts';

/** The third is a second client of the second's device: it may ask for little. */
export const CLIENTS = ['lender', 'borrower', 'borrower'] as const;
const BATCH = 24;

export type FuzzStep =
  /** Connects, unless the client is there; what is agreed on, and whether memory is on and mapped. */
  | { kind: 'connect'; client: number; version: 'whole' | 'small' | 'none'; prepare: boolean }
  | { kind: 'message'; client: number; command: number; payload: Buffer; fds: readonly FdKind[]; noReply: boolean }
  /** A message whose header lies, or of which a part is missing: what follows means nothing. */
  | { kind: 'damage'; client: number; command: number; payload: Buffer; fds: readonly FdKind[]; lie: Lie }
  /** The server has so many rounds; then the client looks at what it got. */
  | { kind: 'look'; client: number; rounds: number }
  | { kind: 'leave'; client: number; rounds: number }
  | { kind: 'bystander' };

export interface Lie {
  size: number;
  flags: number;
  cutAt: number;
  copiesOfFd: number;
}

/** Rounds of the server's loop: an engine that copies gigabytes goes on in the next. */
export const ROUNDS = 40;

/** Steps with so many messages. */
export function randomSteps(random: FuzzRandom, messages: number): FuzzStep[] {
  const steps: FuzzStep[] = [];
  // A strict client wants a reply to everything and tells no lies: then all that it is told can be checked.
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
    // The third takes the device from the second for a batch.
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

/** Steps as lines for a person and for `npm run fuzz -- --replay`. */
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
