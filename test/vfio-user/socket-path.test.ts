/** Sockets of servers that start and stop at the same path. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Errno } from '../../src/abi/errno.ts';
import { connectUnix, listenUnix } from '../../src/linux/socket.ts';
import { SocketPath } from '../../src/vfio-user/server/socket-path.ts';

const BIN = fileURLToPath(new URL('../../bin/barter.cjs', import.meta.url));

async function inFolder(body: (folder: string, path: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-path-'));
  try {
    await body(folder, join(folder, 'a.sock'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const refused = (e: unknown) => e instanceof Errno && e.code === 'EADDRINUSE';

test('a socket that nobody listens at is replaced; a living one, and another file, are not', () =>
  inFolder((_, path) => {
    listenUnix(path).close();
    const first = new SocketPath(path);
    assert.throws(() => new SocketPath(path), refused);
    connectUnix(path).close();
    first.close();
    assert.ok(!existsSync(path));
    writeFileSync(path, 'a letter');
    assert.throws(() => new SocketPath(path), refused);
  }));

test('a server that stops leaves the socket of another that took its path over', () =>
  inFolder((folder, path) => {
    const first = new SocketPath(path);
    renameSync(path, join(folder, 'moved.sock'));
    const second = new SocketPath(path);
    first.close();
    connectUnix(path).close();
    second.close();
    assert.ok(!existsSync(path));
  }));

test('a folder that is gone does not keep a server from ending', () =>
  inFolder((folder, path) => {
    const first = new SocketPath(path);
    rmSync(folder, { recursive: true });
    first.close();
  }));

test('of servers that start at once on a stale socket, those that say ready are there', () =>
  inFolder(async (folder) => {
    for (let round = 0; round < 3; round++) {
      // The killed servers below leave their sockets for the next round.
      if (round === 0) for (const name of ['lender', 'borrower']) listenUnix(join(folder, `${name}.sock`)).close();
      const args = [BIN, 'serve', 'examples/two-peers.yaml', '--socket-dir', folder];
      const cwd = fileURLToPath(new URL('../..', import.meta.url));
      const servers = Array.from({ length: 3 }, () =>
        spawn(process.execPath, args, { cwd, stdio: ['ignore', 'pipe', 'ignore'] }),
      );
      const ends = servers.map((child) => once(child, 'exit'));
      const results = await Promise.all(
        servers.map(async (child) => {
          for await (const line of createInterface({ input: child.stdout! })) return line.startsWith('ready');
          return false;
        }),
      );
      assert.equal(results.filter((ready) => ready).length, 1, 'one has the folder, and the others say so');
      connectUnix(join(folder, 'lender.sock')).close();
      for (const [i, child] of servers.entries()) if (results[i]) child.kill('SIGKILL');
      await Promise.all(ends);
    }
  }));
