/** Runs a client once for each deviation of the server, and judges by how the client ends. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Errno } from '../../abi/errno.ts';
import type { Progress, TrialResult } from '../engine.ts';
import { TrialLog } from '../exchange.ts';
import { keptOf, killGroup, spawnGroup } from '../program.ts';
import { SOCKET_PLACE } from '../server.ts';
import type { ClientDeviation } from './deviation.ts';
import { DeviantServer } from './server.ts';

export const CLIENT_VERDICTS = ['dies', 'hangs', 'refuses', 'goes-on', 'not-applicable'] as const;
export type ClientVerdict = (typeof CLIENT_VERDICTS)[number];

const PUMP_MS = 1;
/** Why a client is not judged. */
const NOT_MET = {
  command: 'the client does not send the command that this is about',
  reorders: 'the client does not have two such commands under way together',
};
/** A shell's status for a program that a signal ended. */
const BY_SIGNAL = 128;
const LAST_SIGNAL = 64;

export interface ConformClientOptions {
  /** A client that runs longer hangs. */
  timeoutMs: number;
  signal?: AbortSignal;
  onProgress?(progress: Progress): void;
}

export interface ClientResult {
  id: string;
  group: string;
  says: string;
  chapter: string;
  verdict: ClientVerdict;
  /** Whether the client must not do so. */
  isFault: boolean;
  results: readonly TrialResult<ClientVerdict>[];
}

/** EINVAL where the command has no place for the socket, or does not end well with a server without deviations. */
export async function conformClient(
  command: readonly string[],
  deviations: readonly ClientDeviation[],
  options: ConformClientOptions,
): Promise<ClientResult[]> {
  if (!command.some((word) => word.includes(SOCKET_PLACE))) {
    throw new Errno('EINVAL', `the command names no socket: write ${SOCKET_PLACE} where its path goes`);
  }
  const plain = await tryOnce(command, null, options.timeoutMs);
  if (plain.verdict !== 'goes-on') {
    throw new Errno('EINVAL', `the client ${plain.verdict} without any deviation: ${plain.text}`);
  }
  const results: ClientResult[] = [];
  const progress: Progress = { done: 0, of: deviations.length, faults: 0 };
  for (const deviation of deviations) {
    if (options.signal?.aborted === true) break;
    let trial = await tryOnce(command, deviation, options.timeoutMs);
    // A fault counts where it comes again.
    if (isFault(deviation, trial.verdict)) trial = await tryOnce(command, deviation, options.timeoutMs);
    const { id, group, says, chapter } = deviation;
    const { verdict } = trial;
    results.push({ id, group, says, chapter, verdict, isFault: isFault(deviation, verdict), results: [trial] });
    progress.done += 1;
    if (isFault(deviation, verdict)) progress.faults += 1;
    options.onProgress?.(progress);
  }
  return results;
}

/** Nothing may end or stop a client, and what the protocol allows must not even be refused. */
function isFault({ isLawful }: ClientDeviation, verdict: ClientVerdict): boolean {
  return verdict === 'dies' || verdict === 'hangs' || (isLawful && verdict === 'refuses');
}

async function tryOnce(
  command: readonly string[],
  deviation: ClientDeviation | null,
  timeoutMs: number,
): Promise<TrialResult<ClientVerdict>> {
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'barter-conform-'));
  const path = join(folder, 'device.sock');
  const log = new TrialLog();
  const server = new DeviantServer(path, deviation, log);
  const client = new ClientRun(command.map((word) => word.replaceAll(SOCKET_PLACE, path)));
  try {
    const deadline = started + timeoutMs;
    while (client.ended === null && performance.now() < deadline) {
      server.pump();
      await sleep(PUMP_MS);
    }
    const { verdict, text } = client.judge(timeoutMs);
    const isTouched = deviation === null || server.touched > 0;
    return {
      device: 'client',
      verdict: isTouched || verdict === 'dies' ? verdict : 'not-applicable',
      text: isTouched ? text : NOT_MET[deviation.reorders === true ? 'reorders' : 'command'],
      exchange: log.entries,
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await client.end();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

class ClientRun {
  ended: { status: number | null; signal: string | null; error: string } | null = null;
  private readonly child: ChildProcess;
  private readonly exit: Promise<void>;
  private output = '';

  constructor(command: readonly string[]) {
    const child = spawnGroup(command, (text) => {
      this.output = keptOf(this.output + text);
    });
    this.child = child;
    this.exit = new Promise((done) => {
      child.once('error', (error) => {
        this.ended = { status: null, signal: null, error: error.message };
        done();
      });
      child.once('close', (status, signal) => {
        this.ended ??= { status, signal, error: '' };
        done();
      });
    });
  }

  judge(timeoutMs: number): { verdict: ClientVerdict; text: string } {
    const { ended } = this;
    const said = this.output.trim().split('\n').at(-1) ?? '';
    if (ended === null) return { verdict: 'hangs', text: `the client does not end within ${timeoutMs} ms` };
    const { status, signal, error } = ended;
    if (error !== '') throw new Errno('ENOENT', `the client does not start: ${error}`);
    if (signal !== null) return { verdict: 'dies', text: `signal ${signal}: ${said}` };
    if (status !== null && status > BY_SIGNAL && status <= BY_SIGNAL + LAST_SIGNAL) {
      return { verdict: 'dies', text: `status ${status}, which stands for signal ${status - BY_SIGNAL}: ${said}` };
    }
    return status === 0 ? { verdict: 'goes-on', text: '' } : { verdict: 'refuses', text: `status ${status}: ${said}` };
  }

  /** Ends the client and what it started. */
  async end(): Promise<void> {
    killGroup(this.child, 'SIGKILL');
    await this.exit;
  }
}
