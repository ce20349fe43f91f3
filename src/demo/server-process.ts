/** The server of the demo: `barter serve` in a process of its own, and the check that it leaves nothing behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
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
  /** The address of its page, if it has one. */
  http?: string | undefined;
}

/**
 * The open descriptors, without TCP sockets: those of a page come and go with its viewers. libuv keeps /dev/null open
 * from a loop's first stream on, which is the server's output where stdout is a file.
 */
export function openFds(): number {
  const tcp = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap(inodesOf).map((inode) => `socket:[${inode}]`));
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target !== '/dev/null' && !tcp.has(target);
    } catch {
      // The descriptor of the folder itself.
      return false;
    }
  }).length;
}

/** The inodes of a table of sockets: the tenth column. */
function inodesOf(table: string): string[] {
  if (!existsSync(table)) return [];
  const lines = readFileSync(table, 'utf8').trim().split('\n').slice(1);
  return lines.map((line) => line.trim().split(/\s+/)[9]);
}

export async function startServer(machinePath: string, hasPage = false): Promise<ServerProcess> {
  const socketDir = mkdtempSync(join(tmpdir(), 'barter-demo-'));
  const bin = packageFile('bin/barter.cjs');
  const more = hasPage ? ['--http', '0'] : [];
  const args = [bin, 'serve', machinePath, '--socket-dir', socketDir, '--json', ...more];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const onExit = () => void child.kill();
  process.once('exit', onExit);
  child.once('exit', () => process.off('exit', onExit));
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = JSON.parse(line) as { devices: { name: string; socket: string }[]; http?: string };
    const paths = new Map(ready.devices.map(({ name, socket }) => [name, socket]));
    return { process: child, socketDir, paths, http: ready.http };
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
