import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VFIO_USER_DMA_MAP, vfio_user_dma_map } from '../../src/abi/vfio-user.ts';
import { connectUnix, peerCredentials } from '../../src/linux/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { Lingering } from '../vfio-user/odd-fds.ts';
import { message, RawClient } from '../vfio-user/raw-client.ts';
import { barter, endOf, ROOT, spawnBarter, startBarter } from './barter.ts';

const MACHINE = 'examples/two-peers.yaml';

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-serve-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('serve says ready, listens with mode 0600, and leaves nothing at SIGTERM, SIGINT or SIGHUP', () =>
  inFolder(async (folder) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      const { child, firstLine } = await startBarter('serve', MACHINE, '--socket-dir', folder, '--json');
      const ready = JSON.parse(firstLine);
      assert.deepEqual(ready, {
        ready: true,
        devices: ['lender', 'borrower'].map((name) => ({ name, socket: join(folder, `${name}.sock`) })),
      });
      for (const { socket } of ready.devices) assert.equal(statSync(socket).mode & 0o777, 0o600);
      const client = new VfioUserClient(ready.devices[0].socket);
      assert.equal(client.regionInfo(0).sizeBytes, 64 * 1024 * 1024);
      assert.equal(await endOf(child, signal), 0);
      assert.throws(() => client.info(), /ECONNRESET|EPIPE/);
      client.close();
      assert.deepEqual(readdirSync(folder), []);
    }
  }));

test('a server whose trace nobody reads any more ends, and leaves nothing', () =>
  inFolder(async (folder) => {
    const { child } = await startBarter('serve', MACHINE, '--socket-dir', folder, '--trace');
    child.stdout!.destroy();
    const ended = once(child, 'exit');
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
    const client = new VfioUserClient(join(folder, 'lender.sock'));
    assert.deepEqual(await ended, [0, null]);
    clearTimeout(late);
    client.close();
    assert.deepEqual(readdirSync(folder), []);
  }));

test('with nothing to serve it ends in good order, whatever its thread is loading', async () => {
  const runs = Array.from({ length: 40 }, (_, i) => spawnBarter('serve', i % 2 === 0 ? '--help' : 'no-such.yaml'));
  for (const [i, child] of runs.entries()) {
    child.stdout!.resume();
    child.stderr!.resume();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    assert.deepEqual([child.exitCode, child.signalCode], [i % 2 === 0 ? 0 : 2, null]);
  }
});

test('under npx too, a signal ends the server, and leaves no socket and no process', () =>
  inFolder(async (folder) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const) {
      const args = ['barter', 'serve', MACHINE, '--socket-dir', folder];
      const npx = spawn('npx', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
      await once(npx.stdout, 'data');
      const socket = connectUnix(join(folder, 'lender.sock'));
      const server = `/proc/${peerCredentials(socket).pid}`;
      socket.close();
      assert.ok(existsSync(server));
      const ended = once(npx, 'exit');
      // A terminal's Ctrl-C reaches all processes. npx's shell absorbs a signal that only npx gets.
      process.kill(signal === 'SIGINT' ? -npx.pid! : npx.pid!, signal);
      await ended;
      for (const deadline = performance.now() + 5000; existsSync(server) && performance.now() < deadline; ) {
        await sleep(5);
      }
      assert.ok(!existsSync(server), `${signal}: the server stays`);
      assert.deepEqual(readdirSync(folder), []);
    }
  }));

test('the socket of a server that was killed is replaced; that of a living one, and a file, are not', () =>
  inFolder(async (folder) => {
    const first = await startBarter('serve', MACHINE, '--socket-dir', folder);
    assert.match(first.firstLine, /^ready: lender at /);
    const refused = barter('serve', MACHINE, '--socket-dir', folder);
    assert.equal(refused.status, 1);
    assert.match(
      refused.stderr,
      /^barter: EADDRINUSE: a server has sockets in .*; stop it, or choose another --socket-dir\n$/,
    );
    await endOf(first.child, 'SIGKILL');
    assert.ok(existsSync(join(folder, 'lender.sock')));
    const second = await startBarter('serve', MACHINE, '--socket-dir', folder);
    assert.match(second.firstLine, /^ready: /);
    assert.equal(await endOf(second.child, 'SIGTERM'), 0);
    writeFileSync(join(folder, 'lender.sock'), 'a letter');
    assert.equal(barter('serve', MACHINE, '--socket-dir', folder).status, 1);
    assert.ok(existsSync(join(folder, 'lender.sock')));
  }));

test('descriptors of a client that take a minute to close hold up no others, and no server that ends', () =>
  inFolder(async (folder) => {
    const { child } = await startBarter('serve', MACHINE, '--socket-dir', folder);
    const lingering = new Lingering();
    const count = (what: 'fd' | 'task') => readdirSync(`/proc/${child.pid}/${what}`).length;
    const idle = { fd: count('fd'), task: count('task') };
    const map = vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr: 0, size: 4096 });
    for (let i = 0; i < 10; i++) {
      const client = RawClient.ready(join(folder, 'lender.sock'));
      const fd = lingering.make();
      const bytes = message({ command: VFIO_USER_DMA_MAP }, map);
      client.send(bytes.subarray(0, 8), [fd.fd]);
      fd.close();
      client.send(bytes.subarray(8));
      assert.notEqual(client.receive()?.error, 0);
      client.close();
      while (count('fd') > idle.fd) await sleep(1);
    }
    assert.equal(count('task'), idle.task + 10);
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    lingering.close();
  }));
