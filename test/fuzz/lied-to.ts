/** The common part of the fuzzers of both clients: steps against a server that mostly lies, and what a call may say. */
import { readFileSync } from 'node:fs';
import { runDelayMs } from '../../lab/host/fair-limit.ts';
import { Errno } from '../../src/abi/errno.ts';
import type { ClientDmaMemory } from '../../src/vfio-user/client/dma-answer.ts';
import { LostError } from '../../src/vfio-user/client/lost.ts';
import { openFds } from '../linux/open-fds.ts';
import { Coverage, FuzzFinding, type FuzzRun } from './fuzzer.ts';
import type { LyingServer } from './lying-server.ts';
import { shortest } from './shrink.ts';

/** A call that takes longer hangs. */
const MAX_CALL_MS = 3000;
/** How old the clock's look at the host may be when a call begins. */
const LOOK_EVERY_MS = 1000;

/** Times calls, without the time in which a busy host ran other processes in this one's place. */
export class CallClock {
  private lookedMs = Number.NEGATIVE_INFINITY;
  private delayMs = 0;
  private beganMs = 0;

  /** A call begins. */
  begin(): void {
    this.beganMs = performance.now();
    if (this.beganMs - this.lookedMs < LOOK_EVERY_MS) return;
    this.lookedMs = this.beganMs;
    this.delayMs = runDelayMs(process.pid);
  }

  /** FuzzFinding if the call that began last takes longer than MAX_CALL_MS. */
  demandShort(op: string): void {
    const took = performance.now() - this.beganMs;
    if (took <= MAX_CALL_MS || took - (runDelayMs(process.pid) - this.delayMs) <= MAX_CALL_MS) return;
    throw new FuzzFinding(`${op} took ${took.toFixed(0)} ms`);
  }
}

/** Errors that an honest server may cause: a mapping outside of the areas, or of a file that was cut off. */
const HONEST_ERRORS: ReadonlySet<string> = new Set(['mapRegion EINVAL', 'mapRegion EFAULT', 'mapRegion EACCES']);

/**
 * Runs steps with random ops, each with a seed of its own, in epochs of `epochSteps`, each with a server of its own.
 * Throws the finding with the fewest steps that repeat it in `tries` runs.
 */
export async function fuzzLies<S>(
  { random, messages, coverage, seed }: FuzzRun,
  ops: readonly string[],
  { epochSteps, tries }: { epochSteps: number; tries: number },
  makeStep: (op: string, seed: number) => S,
  runSteps: (steps: readonly S[], coverage: Coverage) => void | Promise<void>,
): Promise<void> {
  for (let sent = 0; sent < messages; sent += epochSteps) {
    const steps = Array.from({ length: Math.min(epochSteps, messages - sent) }, () => {
      const op = random.chance(12) ? 'connect' : random.pick(ops);
      return makeStep(op, random.bits() >>> 0);
    });
    try {
      await runSteps(steps, coverage);
    } catch (error) {
      const few = await shortest(steps, error as Error, (some) => runSteps(some, new Coverage()), { tries });
      throw new FuzzFinding(`${(error as Error).message}\nseed ${seed}; ${few}`);
    }
    coverage.count('client: epochs');
  }
}

/** Answers the device's DMA to memory without a descriptor. */
export function serveMemory(client: { memory: ClientDmaMemory | null }): void {
  const bytes = Buffer.alloc(8192, 1);
  client.memory = {
    read: (address, into) => void into.set(bytes.subarray(0, into.length), 0 * address),
    write: () => {},
  };
}

/** Judges the error of a call. Throws FuzzFinding unless it is one clear error that the server caused. */
export function judge(op: string, error: unknown, server: LyingServer): { code: string; isLost: boolean } {
  if (!(error instanceof Errno)) {
    const { name, message } = error as Error;
    throw new FuzzFinding(`${op}: ${name}: ${message}`);
  }
  if (/\n|undefined|NaN|\[object/.test(error.message)) throw new FuzzFinding(`${op}: not in words: ${error.message}`);
  const { lied, isWild, device } = server;
  // A slow machine makes an honest server late.
  const mayFail = lied || isWild || device.isOdd || error.code === 'ETIMEDOUT';
  if (!mayFail && !HONEST_ERRORS.has(`${op} ${error.code}`)) {
    // Without the socket's path, which differs in each run.
    throw new FuzzFinding(`${op}: an honest reply is ${error.message.replaceAll(server.path, 'S')}`);
  }
  // A wild stream mostly ends in silence, and each silence takes real time.
  return { code: error.code, isLost: error instanceof LostError || isWild };
}

/** Demands as many descriptors as before, and no mapping of the server's files. */
export function demandNothingLeft(descriptorsBefore: number): void {
  const left = openFds().length - descriptorsBefore;
  if (left !== 0) throw new FuzzFinding(`${left} descriptors are left`);
  const maps = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('lying'));
  if (maps.length > 0) throw new FuzzFinding(`${maps.length} mappings are left`);
}
