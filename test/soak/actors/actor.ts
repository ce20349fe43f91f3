/** What all actors share. An actor is a process of its own, and may be killed at any moment. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../../src/abi/errno.ts';
import { FuzzRandom } from '../../fuzz/random.ts';

export interface Stage {
  /** The socket of a device of the server that is watched. */
  path(device: string): string;
  /** A folder for sockets and files of this actor. */
  readonly folder: string;
  readonly random: FuzzRandom;
  /** False once the round is over. */
  goesOn(): boolean;
  /** Counts what was done, for the summary. */
  did(what: string): void;
}

export type Actor = (stage: Stage) => Promise<void>;

/** Errors that a client may get at any time while others are killed and devices change hands. */
const USUAL = new Set(['EBUSY', 'ECONNRESET', 'EPIPE', 'ECONNREFUSED', 'ENOENT', 'EAGAIN', 'ETIMEDOUT']);

/** Runs `body` again and again until the round is over. */
export async function repeat(stage: Stage, what: string, body: () => void | Promise<void>): Promise<void> {
  while (stage.goesOn()) {
    try {
      await body();
      stage.did(what);
    } catch (error) {
      if (!(error instanceof Errno) || !USUAL.has(error.code)) throw error;
      stage.did(`${what}: ${error.code}`);
    }
    await sleep(5);
  }
}

export class ActorStage implements Stage {
  readonly folder: string;
  readonly random: FuzzRandom;
  readonly done = new Map<string, number>();
  private readonly socketDir: string;
  private readonly end: number;

  constructor(socketDir: string, folder: string, seed: number, seconds: number) {
    this.socketDir = socketDir;
    this.folder = folder;
    this.random = new FuzzRandom(seed);
    this.end = performance.now() + 1000 * seconds;
  }

  path(device: string): string {
    return join(this.socketDir, `${device}.sock`);
  }

  goesOn(): boolean {
    return performance.now() < this.end;
  }

  did(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
  }
}
