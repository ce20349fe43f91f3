/** A server in a thread that sends the test's scripted replies, right or wrong. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../src/linux/worker.ts';

export interface ScriptedReply {
  /** The payload in hexadecimal. */
  payload: string;
  /** How many descriptors (of a socket) to send with it. */
  fds?: number;
  /** Descriptors of this process to send with it. */
  fdNumbers?: readonly number[];
  error?: number;
  /** Added to the request's id. */
  idOffset?: number;
  command?: number;
  /** The size in the header; by default the true size. */
  size?: number;
  /** Send only so many bytes of the message, and close the connection. */
  cutAt?: number;
  /** Whole messages that go out before it, in hexadecimal: the server's own commands, for example. */
  before?: readonly string[];
  /** Send it only in front of the reply to the next request. */
  isLate?: boolean;
  /** Milliseconds between its first `halfAt` bytes and the rest. */
  pauseMs?: number;
  halfAt?: number;
}

export interface SeenMessage {
  command: number;
  payload: string;
  fds: number;
  /** Whether the client answers a command of the server. */
  isReply: boolean;
}

async function startThread(): Promise<Worker> {
  const worker = startWorker('./scripted-worker', import.meta.url);
  await once(worker, 'message');
  worker.unref();
  return worker;
}

/** One thread for all scripts of a test file: it starts before tests count descriptors. It keeps no process alive. */
const worker = await startThread();

/**
 * Runs `body` with the path of a server that sends one reply after the other; returns the messages that it received.
 */
export async function withScript(
  replies: readonly ScriptedReply[],
  body: (path: string) => void | Promise<void>,
): Promise<SeenMessage[]> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-script-'));
  const path = join(folder, 'device.sock');
  worker.ref();
  try {
    worker.postMessage({ path, replies });
    await once(worker, 'message');
    const ended = once(worker, 'message');
    try {
      await body(path);
    } finally {
      await ended;
    }
    const [seen] = await ended;
    if (typeof seen === 'string') throw new Error(`the scripted server failed: ${seen}`);
    return seen;
  } finally {
    worker.unref();
    rmSync(folder, { recursive: true });
  }
}

/** A VERSION payload with these capabilities. */
export function version(capabilities: object, minor = 0): ScriptedReply {
  const head = Buffer.from([0, 0, minor, 0]);
  return { payload: Buffer.concat([head, Buffer.from(`${JSON.stringify({ capabilities })}\0`)]).toString('hex') };
}
