/**
 * Where the lab keeps everything that it fetched and built: outside the clone, shared by all clones, one writer at a
 * time.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * The release of the lab. The default is the oldest release whose backports have QEMU 10.1 and Linux 6.19. Every other
 * release has its own lab beside it.
 */
const OLDEST_SUITE = 'trixie';
export const SUITE = process.env.BARTER_SUITE ?? OLDEST_SUITE;
/** The source of QEMU and the kernel. */
export const NEWEST_SUITE = SUITE === OLDEST_SUITE ? `${SUITE}-backports` : SUITE;

export function labCache(): string {
  const base = process.env.BARTER_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'barter');
  return join(base, SUITE === OLDEST_SUITE ? 'lab' : `lab-${SUITE}`);
}

/** The path of a part of the lab. `root` is the folder of the distribution that QEMU and the compiler come from. */
export function labPath(...parts: string[]): string {
  return join(labCache(), ...parts);
}

/** Whether a stage was completed with this `key`. Another `key` makes the stage again. */
export function isStamped(stage: string, key: string): boolean {
  const path = labPath(`${stage}.done`);
  return existsSync(path) && readFileSync(path, 'utf8') === key;
}

export function stamp(stage: string, key: string): void {
  writeFileSync(labPath(`${stage}.done`), key);
}

export function unstamp(stage: string): void {
  rmSync(labPath(`${stage}.done`), { force: true });
}

/**
 * Holds the cache for writing. Waits while another process holds it, and calls `onWait` with its pid. The lock is an
 * abstract socket, which the kernel removes however its holder ends. A waiter sees that as the end of its connection.
 */
export async function lockCache(onWait: (pid: string) => void): Promise<() => void> {
  mkdirSync(labCache(), { recursive: true });
  const name = `\0barter-lab-${createHash('sha256').update(realpathSync(labCache())).digest('hex').slice(0, 32)}`;
  for (;;) {
    const server = await tryListen(name);
    if (server !== null) return server;
    await holderEnds(name, onWait);
  }
}

async function tryListen(name: string): Promise<(() => void) | null> {
  const waiting = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    waiting.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => waiting.delete(socket));
    socket.write(String(process.pid));
  });
  try {
    server.listen(name);
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return null;
    throw error;
  }
  return () => {
    server.close();
    for (const socket of waiting) socket.destroy();
  };
}

async function holderEnds(name: string, onWait: (pid: string) => void): Promise<void> {
  const socket = connect(name);
  socket.on('error', () => {});
  socket.setEncoding('utf8').once('data', onWait);
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}
