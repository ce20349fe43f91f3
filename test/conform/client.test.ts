/** Clients against a server that deviates: Barter's own bears it all, and a bad one is found out. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ERRNO } from '../../src/abi/errno.ts';
import { VFIO_USER_DEVICE_GET_REGION_INFO, VFIO_USER_REGION_READ } from '../../src/abi/vfio-user.ts';
import { CLIENT_GROUPS } from '../../src/conform/client/deviation.ts';
import { DEVIATIONS } from '../../src/conform/client/deviations/catalogue.ts';
import { ShownDevice } from '../../src/conform/client/device.ts';
import { type ClientResult, conformClient } from '../../src/conform/client/engine.ts';
import { CONFIG } from '../../src/conform/facts.ts';
import type { Incoming } from '../../src/conform/peer.ts';
import * as request from '../../src/conform/requests.ts';
import { BIN, barter } from '../cli/barter.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-conform-client-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('every deviation has an id of its own and a sentence, and each group has some', () => {
  assert.equal(new Set(DEVIATIONS.map(({ id }) => id)).size, DEVIATIONS.length);
  for (const { id, group, says } of DEVIATIONS) {
    assert.ok(id.startsWith(`${group}.`), id);
    assert.match(says, /\.$/, id);
  }
  for (const group of Object.keys(CLIENT_GROUPS))
    assert.ok(
      DEVIATIONS.some((each) => each.group === group),
      group,
    );
});

/** One deviation of each kind that the client meets at once; docs/peers.md has all of them. */
const SAMPLE = [
  ...['stream.each-byte', 'stream.header-then-payload', 'stream.other-id-get-info', 'stream.dma-nowhere'],
  ...['size.size-0-get-info', 'size.cut-get-region-info', 'limit.four-bytes', 'limit.no-limits'],
  ...['region.unknown-then-sparse', 'region.chain-loop', 'region.short-file', 'device.many-irqs'],
  ...['refusal.errno-huge-get-info', 'end.half-of-get-info', 'limit.major-1'],
];
const sampled = () => {
  const found = DEVIATIONS.filter(({ id }) => SAMPLE.includes(id));
  assert.equal(found.length, SAMPLE.length);
  return found;
};

function verdictOf(results: readonly ClientResult[], id: string): string | undefined {
  return results.find((result) => result.id === id)?.verdict;
}

test("no deviation of the sample ends or stops Barter's client", async () => {
  const results = await conformClient([process.execPath, BIN, 'inspect', '{socket}'], sampled(), { timeoutMs: 60_000 });
  assert.deepEqual(
    results.filter(({ isFault }) => isFault).map(({ id, verdict, results: [{ text }] }) => `${id} ${verdict}: ${text}`),
    [],
  );
  assert.equal(verdictOf(results, 'stream.each-byte'), 'goes-on');
  assert.equal(verdictOf(results, 'limit.four-bytes'), 'goes-on');
  assert.equal(verdictOf(results, 'limit.major-1'), 'refuses');
  assert.equal(verdictOf(results, 'end.half-of-get-info'), 'refuses');
});

/** A client with many calls under way. Each read must bring its own part of config space. */
const PIPELINING = `
import { AsyncVfioUserClient } from ${JSON.stringify(new URL('../../src/api/client.ts', import.meta.url).href)};
const client = await AsyncVfioUserClient.connect(process.argv[1], { timeoutMs: 30_000 });
const places = Array.from({ length: 16 }, (_, i) => 4 * i);
const whole = await client.readRegion(7, 0, 64);
const parts = await Promise.all(places.map((place) => client.readRegion(7, place, 4)));
client.close();
if (!Buffer.concat(parts).equals(whole)) throw new Error('a read brought the bytes of another');
`;

/** The same client, which takes replies in the order of its commands. */
const IN_ORDER = `
import { CallIds } from ${JSON.stringify(new URL('../../src/vfio-user/client/call-ids.ts', import.meta.url).href)};
CallIds.prototype.match = function () { return this.waiting.keys().next().value ?? null; };
${PIPELINING}`;

test('replies that overtake each other reach the calls that they are for, and a client that mixes them up is seen', async () => {
  const reordered = DEVIATIONS.filter(({ reorders }) => reorders === true);
  const run = async (program: string) => {
    const args = ['--conditions=barter-source', '--import', 'tsx', '--input-type=module', '-e', program, '{socket}'];
    const results = await conformClient([process.execPath, ...args], reordered, { timeoutMs: 60_000 });
    return results.map(({ id, verdict, isFault }) => [id, verdict, isFault]);
  };
  assert.deepEqual(await run(PIPELINING), [
    ['stream.reversed', 'goes-on', false],
    ['stream.overtaken-region-read', 'goes-on', false],
    ['stream.overtaken-dma-map', 'not-applicable', false],
  ]);
  assert.deepEqual(await run(IN_ORDER), [
    ['stream.reversed', 'refuses', true],
    ['stream.overtaken-region-read', 'refuses', true],
    ['stream.overtaken-dma-map', 'not-applicable', false],
  ]);
});

test('the shown device refuses a command that is cut short, and an access at 2^63', () => {
  const device = new ShownDevice();
  const errnoOf = (command: number, payload: Buffer) => {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    return device.answer({ command, id: 1, payload, view } as Incoming).errno;
  };
  assert.equal(errnoOf(VFIO_USER_DEVICE_GET_REGION_INFO, request.regionInfo(CONFIG)), 0);
  assert.equal(errnoOf(VFIO_USER_DEVICE_GET_REGION_INFO, request.regionInfo(CONFIG).subarray(0, 4)), ERRNO.EINVAL);
  assert.equal(errnoOf(VFIO_USER_REGION_READ, request.access(CONFIG, 0, 4)), 0);
  assert.equal(errnoOf(VFIO_USER_REGION_READ, request.access(CONFIG, 1n << 63n, 4)), ERRNO.EINVAL);
  device.close();
});

/** A client that reads the reply to VERSION with one receive, and trusts its size. */
const NAIVE = `
const { connect } = require('node:net');
const json = Buffer.from('{"capabilities":{}}\\0');
const message = Buffer.alloc(20 + json.length);
message.writeUInt16LE(1, 2); message.writeUInt32LE(message.length, 4); json.copy(message, 20);
const socket = connect(process.argv[2], () => socket.write(message));
socket.once('data', (data) => {
  if (data.readUInt16LE(0) !== 0) process.kill(process.pid, 'SIGSEGV');
  if (data.readUInt32LE(4) === 0) setInterval(() => {}, 1000);
  else process.exit(data.length === data.readUInt32LE(4) ? 0 : 1);
});
`;

test('a client that dies, one that hangs and one that refuses what it must bear are told apart', async () => {
  const path = join(folder, 'naive.cjs');
  writeFileSync(path, NAIVE);
  const wanted = ['stream.other-id-version', 'size.size-0-version', 'stream.version-in-parts', 'stream.each-byte'];
  const deviations = DEVIATIONS.filter(({ id }) => wanted.includes(id));
  const results = await conformClient([process.execPath, path, '{socket}'], deviations, { timeoutMs: 4000 });
  assert.equal(verdictOf(results, 'stream.other-id-version'), 'dies');
  assert.equal(verdictOf(results, 'size.size-0-version'), 'hangs');
  assert.equal(verdictOf(results, 'stream.version-in-parts'), 'refuses');
  assert.equal(verdictOf(results, 'stream.each-byte'), 'not-applicable');
  assert.deepEqual(
    results.filter(({ isFault }) => isFault).map(({ id }) => id.split('.')[0]),
    ['stream', 'stream', 'size'],
  );
});

test('the command tells a fault by its status, and how the client ended', () => {
  const words = ['conform', 'client', '--rule', 'limit.no-json', '--json', '--'];
  const good = barter(...words, process.execPath, BIN, 'inspect', '{socket}');
  assert.deepEqual([good.status, JSON.parse(good.stdout).rules[0].verdict], [0, 'goes-on']);
  const bad = barter(...words, 'false', '{socket}');
  assert.equal(bad.status, 2);
  assert.match(bad.stderr, /the client refuses without any deviation: status 1/);
});
