/** The server of the demo: `barter serve` in a process of its own, and the check that it leaves nothing behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Errno } from '../abi/errno.ts';
import { packageFile } from '../linux/package-file.ts';

export interface ServerProcess {
  process: ChildProcess;
  socketDir: string;
  /** The socket of each device. */
  paths: Map<string, string>;
}

export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

export async function startServer(machinePath: string): Promise<ServerProcess> {
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-demo-'));
  const bin = packageFile('bin/barter.cjs');
  const child = spawn(process.execPath, [bin, 'serve', machinePath, '--socket-dir', socketDir, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = JSON.parse(line) as { devices: { name: string; socket: string }[] };
    return { process: child, socketDir, paths: new Map(ready.devices.map(({ name, socket }) => [name, socket])) };
  }
  rmSync(socketDir, { recursive: true, force: true });
  throw new Errno('EIO', 'the server ended before it was ready');
}

export async function stopServer(
  { process: child, socketDir, paths }: ServerProcess,
  fdsBefore: number,
): Promise<string> {
  // The child has fully ended only when the pipe of its stdout is closed too.
  const status = new Promise<number | null>((resolve) => child.once('close', resolve));
  child.stdout?.resume();
  child.kill('SIGTERM');
  const code = await status;
  const sockets = [...paths.values()].filter((path) => existsSync(path));
  rmSync(socketDir, { recursive: true, force: true });
  const leaked = openFds() - fdsBefore;
  if (code !== 0 || sockets.length > 0 || leaked > 0) {
    throw new Errno(
      'EIO',
      `server status ${code}, sockets left: ${sockets.join(' ') || 'none'}, descriptors left: ${leaked}`,
    );
  }
  return 'status 0; no socket, process or descriptor left';
}
