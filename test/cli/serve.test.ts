import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { barter, endOf, startBarter } from './barter.ts';

const MACHINE = 'examples/two-peers.yaml';

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-serve-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('serve says ready, listens with mode 0600, and leaves nothing at SIGTERM or SIGINT', () =>
  inFolder(async (folder) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
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

test('the socket of a server that was killed is replaced; that of a living one, and a file, are not', () =>
  inFolder(async (folder) => {
    const first = await startBarter('serve', MACHINE, '--socket-dir', folder);
    assert.match(first.firstLine, /^ready: lender at /);
    const refused = barter('serve', MACHINE, '--socket-dir', folder);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /EADDRINUSE.*lender\.sock/);
    await endOf(first.child, 'SIGKILL');
    assert.ok(existsSync(join(folder, 'lender.sock')));
    const second = await startBarter('serve', MACHINE, '--socket-dir', folder);
    assert.match(second.firstLine, /^ready: /);
    assert.equal(await endOf(second.child, 'SIGTERM'), 0);
    writeFileSync(join(folder, 'lender.sock'), 'a letter');
    assert.equal(barter('serve', MACHINE, '--socket-dir', folder).status, 1);
    assert.ok(existsSync(join(folder, 'lender.sock')));
  }));
