/**
 * SIGKILL at any moment: a killed client leaves nothing behind in the server, a killed server no client hanging. A
 * client costs a few milliseconds, a server the start of a process: a thousand of the first and two dozen of the second
 * by default; with BARTER_FULL=1 a thousand of each.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { endOf, startBarter } from '../cli/barter.ts';
import { Random } from '../fuzz/random.ts';
import { withServer } from './served.ts';

const CLIENTS = 1000;
const AT_ONCE = 4;
const SERVERS = process.env.BARTER_FULL === '1' ? 1000 : 24;

const folder = mkdtempSync(join(tmpdir(), 'barter-kill-'));
const churn = join(folder, 'churn');
const source = fileURLToPath(new URL('churn.c', import.meta.url));
const compiled = spawnSync(process.env.CC ?? 'cc', ['-O1', '-o', churn, source], { encoding: 'utf8' });

test(`${CLIENTS} clients killed at any moment leave nothing behind, and disturb nobody`, async () => {
  assert.equal(compiled.status, 0, `this test needs a C compiler: ${compiled.error?.message ?? compiled.stderr}`);
  const server = await withServer();
  const bystander = new VfioUserClient(server.path('bystander'));
  const random = new Random(5);
  const value = Buffer.alloc(4);
  for (let killed = 0; killed < CLIENTS; killed += AT_ONCE) {
    const clients = Array.from({ length: AT_ONCE }, (_, i): ChildProcess => {
      return spawn(churn, [server.path(i % 2 === 0 ? 'lender' : 'borrower')], { stdio: 'ignore' });
    });
    const ends = clients.map((client) => once(client, 'exit'));
    await sleep(random.below(12));
    for (const client of clients) client.kill('SIGKILL');
    value.writeUInt32LE(killed);
    bystander.writeRegion(0, 0, value);
    bystander.readRegion(0, 0, value);
    assert.equal(value.readUInt32LE(), killed);
    await Promise.all(ends);
  }
  bystander.close();
  await server.assertNothingLeft();
  for (const device of ['lender', 'borrower']) new VfioUserClient(server.path(device)).close();
  assert.deepEqual(
    server.log.filter((line) => !line.includes('client dropped: E')),
    [],
  );
});

test(`${SERVERS} servers killed at any moment: clients hear of it, and the next server takes the place`, async () => {
  const random = new Random(6);
  for (let i = 0; i < SERVERS; i++) {
    const { child, firstLine } = await startBarter(
      'serve',
      'examples/two-peers.yaml',
      '--socket-dir',
      folder,
      '--json',
    );
    const client = new VfioUserClient(JSON.parse(firstLine).devices[0].socket);
    const lifeMs = random.below(20);
    const ended = endOf(child, 'SIGCONT');
    let calls = 0;
    let killed = false;
    assert.throws(() => {
      for (const started = performance.now(); performance.now() - started < 10_000; calls++) {
        if (!killed && calls > 0 && performance.now() - started > lifeMs) killed = child.kill('SIGKILL');
        client.readRegion(7, 0, Buffer.alloc(4));
      }
    }, /ECONNRESET|EPIPE/);
    client.close();
    assert.equal(await ended, 'SIGKILL');
  }
});

test('the last server ends in good order, and its folder is empty', async () => {
  const { child } = await startBarter('serve', 'examples/two-peers.yaml', '--socket-dir', folder);
  assert.equal(await endOf(child, 'SIGTERM'), 0);
  rmSync(folder, { recursive: true });
});
