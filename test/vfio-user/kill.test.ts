/**
 * SIGKILL at any moment: a killed client leaves nothing in the server, and a killed server leaves no client hanging. A
 * client costs a few milliseconds, a server the start of a process. By default a thousand clients and 240 servers are
 * killed; with BARTER_FULL=1 a thousand of each, in 3 to 4 minutes.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { endOf, spawnBarter, startBarter } from '../cli/barter.ts';
import { FuzzRandom } from '../fuzz/random.ts';
import { withServer } from './served.ts';

const CLIENTS = 1000;
const SERVERS = process.env.BARTER_FULL === '1' ? 1000 : 240;
/** How many run at a time, each lane in its own folder. */
const LANES = 4;
/** About the time that a server takes until it listens. */
const START_MS = 300;

const folder = mkdtempSync(join(tmpdir(), 'barter-kill-'));
const churn = join(folder, 'churn');
const source = fileURLToPath(new URL('./churn.c', import.meta.url));
const compiled = spawnSync(process.env.CC ?? 'cc', ['-O1', '-o', churn, source], { encoding: 'utf8' });

test(`${CLIENTS} clients killed at any moment leave nothing behind, and disturb nobody`, async () => {
  assert.equal(compiled.status, 0, `this test needs a C compiler: ${compiled.error?.message ?? compiled.stderr}`);
  const server = await withServer();
  const bystander = new VfioUserClient(server.path('bystander'));
  const drivers = ['lender', 'borrower'].map((device, i) =>
    once(spawn(churn, [server.path(device), String(CLIENTS / 2), String(5 + i)], { stdio: 'ignore' }), 'exit'),
  );
  const over = Promise.all(drivers);
  let isOver = false;
  over.then(() => {
    isOver = true;
  });
  const value = Buffer.alloc(4);
  for (let beat = 0; !isOver; beat++) {
    value.writeUInt32LE(beat);
    bystander.writeRegion(0, 0, value);
    bystander.readRegion(0, 0, value);
    assert.equal(value.readUInt32LE(), beat);
    await sleep(1);
  }
  for (const [status] of await over) assert.equal(status, 0);
  bystander.close();
  await server.assertNothingLeft();
  for (const device of ['lender', 'borrower']) new VfioUserClient(server.path(device)).close();
  assert.deepEqual(
    server.log.filter((line) => !line.includes('client dropped: E')),
    [],
  );
});

const lanes = Array.from({ length: LANES }, (_, i) => join(folder, `lane${i}`));
const serve = (lane: string) => ['serve', 'examples/two-peers.yaml', '--socket-dir', lane, '--json'];

/** Kills a server in the middle of its start, whatever it has made by then. */
async function killStarting(lane: string, afterMs: number): Promise<void> {
  const child = spawnBarter(...serve(lane));
  await sleep(afterMs);
  assert.equal(await endOf(child, 'SIGKILL'), 'SIGKILL');
}

/** Kills a server while a client in C keeps it busy, and during the calls of a client here. */
async function killServing(lane: string, lifeMs: number): Promise<void> {
  const { child, firstLine } = await startBarter(...serve(lane));
  const [lender, borrower] = (JSON.parse(firstLine).devices as { socket: string }[]).map(({ socket }) => socket);
  const busy = spawn(churn, [borrower], { stdio: ['ignore', 'pipe', 'ignore'] });
  const busyEnds = once(busy, 'exit');
  await once(busy.stdout, 'data'); // it is connected: a server that is killed before would refuse it
  const client = new VfioUserClient(lender);
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
  assert.deepEqual(await Promise.race([busyEnds, sleep(5000)]), [0, null], 'the other client hangs');
}

test(`${SERVERS} servers killed at any moment: clients hear of it, and the next server takes the place`, async () => {
  const random = new FuzzRandom(6);
  const rounds = lanes.map(async (lane) => {
    for (let i = 0; i < SERVERS / LANES; i++) {
      if (i % 2 === 0) await killStarting(lane, random.below(START_MS));
      else await killServing(lane, random.below(20));
    }
  });
  await Promise.all(rounds);
});

test('the last servers end in good order, and their folders are empty', async () => {
  for (const lane of lanes) {
    const { child } = await startBarter(...serve(lane));
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    assert.deepEqual(readdirSync(lane), []);
  }
  rmSync(folder, { recursive: true });
});
