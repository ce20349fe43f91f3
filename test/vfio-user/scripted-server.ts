/** A server in a thread that sends the test's scripted replies, right or wrong. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startWorker } from '../../src/linux/worker.ts';

export interface ScriptedReply {
  /** The payload in hexadecimal. */
  payload: string;
  /** How many descriptors (of a socket) to send with it. */
  fds?: number;
  error?: number;
}

/**
 * Runs `body` with the path of a server that sends one reply after the other; returns the messages that it received.
 */
export async function withScript(
  replies: readonly ScriptedReply[],
  body: (path: string) => void,
): Promise<{ command: number; payload: string; fds: number }[]> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-script-'));
  const path = join(folder, 'device.sock');
  const worker = startWorker('./scripted-worker', import.meta.url, { workerData: { path, replies } });
  const exit = new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', () => resolve());
  });
  const seen: { command: number; payload: string; fds: number }[] = [];
  await new Promise<void>((resolve) => {
    worker.on('message', (said) => {
      if (said === 'ready') resolve();
      else seen.push(said);
    });
  });
  try {
    body(path);
  } finally {
    await exit;
    rmSync(folder, { recursive: true });
  }
  return seen;
}

/** A VERSION payload with these capabilities. */
export function version(capabilities: object, minor = 0): ScriptedReply {
  const head = Buffer.from([0, 0, minor, 0]);
  return { payload: Buffer.concat([head, Buffer.from(`${JSON.stringify({ capabilities })}\0`)]).toString('hex') };
}
