/** Runs the command as a user does, in its own process. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const BIN = fileURLToPath(new URL('../../bin/barter.cjs', import.meta.url));
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export function barter(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  return { status, stdout, stderr };
}

export function spawnBarter(...args: string[]): ChildProcess {
  return spawn(process.execPath, [BIN, ...args], { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Starts the command and waits for its first line on stdout. */
export async function startBarter(...args: string[]): Promise<{ child: ChildProcess; firstLine: string }> {
  const child = spawnBarter(...args);
  for await (const line of createInterface({ input: child.stdout! })) return { child, firstLine: line };
  throw new Error(`barter ${args.join(' ')} ended before its first line`);
}

/** Kills a child that was started `detached`, with all its descendants: they are one group of processes. */
export function killGroup({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL');
  } catch {
    // All of them are gone.
  }
}

/** Sends a signal and waits for the end; returns the exit status, or the signal that ended the process. */
export function endOf(child: ChildProcess, signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('exit', (code, by) => resolve(code ?? by));
  });
  child.kill(signal);
  return ended;
}
