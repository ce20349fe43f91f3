/** `barter serve --trace`: a line for each exchange. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import type { TracedExchange } from '../../src/vfio-user/exchange/exchanges.ts';
import { enableMemory, exportBuffer, outcome } from '../vfio-user/lent.ts';
import { endOf, spawnBarter } from './barter.ts';

/** The lines of a server while a client reads, exports, and asks for what it cannot have. */
async function trace(...args: string[]): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'barter-trace-'));
  try {
    const child = spawnBarter('serve', 'examples/two-peers.yaml', '--socket-dir', folder, '--trace', ...args);
    let text = '';
    const closed = new Promise((resolve) => child.stdout!.once('close', resolve));
    await new Promise((resolve) => {
      child.stdout!.setEncoding('utf8').on('data', (data: string) => {
        text += data;
        resolve(text);
      });
    });
    const client = new VfioUserClient(join(folder, 'lender.sock'));
    client.readRegion(7, 0, Buffer.alloc(4));
    enableMemory(client, true);
    exportBuffer(client).close();
    assert.equal(
      outcome(() => exportBuffer(client, { region: 7 })),
      'ENODEV',
    );
    client.closeAndWait();
    assert.equal(await endOf(child, 'SIGTERM'), 0);
    await closed;
    return text.trimEnd().split('\n').slice(1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('a line has the command with its fields, and the reply or errno, with the time that it took', async () => {
  const lines = await trace();
  const has = (pattern: RegExp) =>
    assert.equal(lines.filter((line) => pattern.test(line)).length, 1, `${pattern}\n${lines.join('\n')}`);
  has(/^ +\d+\.\d{3} {2}lender {5}> VERSION major=0 minor=\d json=\S+ {2}ok {2}\d+\.\d{3} ms$/);
  has(/> REGION_READ offset=0x0 region=7 count=4 {2}ok data=[0-9a-f]{8} {2}\d+\.\d{3} ms$/);
  has(/> REGION_WRITE offset=0x4 region=7 count=2 data=0600 {2}ok {2}\d+\.\d{3} ms$/);
  has(/> DEVICE_FEATURE GET DMA_BUF region_index=0 .*nr_ranges=1 .* {2}ok .*\[socket\] {2}\d+\.\d{3} ms$/);
  has(/> DEVICE_FEATURE GET DMA_BUF region_index=7 .* {2}ENODEV {2}\d+\.\d{3} ms$/);
});

test('as JSON each line is a document with the fields by the names of the ABI', async () => {
  const exchanges = (await trace('--json')).map((line) => JSON.parse(line) as TracedExchange);
  const refused = exchanges.filter(({ reply }) => reply?.errno === 'ENODEV');
  assert.equal(refused.length, 1);
  const [{ device, kind, pid, message, isOfServer, request, requestFds, isUnanswered }] = refused;
  assert.deepEqual(
    { device, kind, pid, message, isOfServer, requestFds, isUnanswered, region: request.region_index },
    {
      ...{ device: 'lender', kind: 'vfio-user', pid: process.pid, message: 'DEVICE_FEATURE GET DMA_BUF' },
      ...{ isOfServer: false, requestFds: [], isUnanswered: false, region: 7 },
    },
  );
  const lent = exchanges.find((each) => each.message === message && each.reply?.errno === null);
  assert.deepEqual(lent?.reply?.fds, [{ kind: 'socket', sizeBytes: 0 }]);
  assert.ok(exchanges.every(({ reply }) => reply !== null && reply.latencyMs >= 0 && reply.latencyMs < 60_000));
});
