/** Serving one client alone, and what must not come of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { VFIO_USER_REGION_READ } from '../../src/abi/vfio-user.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { message, RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();

function readOften(client: VfioUserClient, times: number): void {
  const word = Buffer.alloc(4);
  for (let i = 0; i < times; i++) client.readRegion(7, 0, word);
}

test('a client that never rests keeps no other from being served', () => {
  const busy = new VfioUserClient(server.path('lender'));
  readOften(busy, 100);
  const started = performance.now();
  for (let i = 0; i < 20; i++) {
    const other = new VfioUserClient(server.path('bystander'));
    readOften(busy, 30);
    readOften(other, 30);
    other.close();
    readOften(busy, 30);
  }
  assert.ok(performance.now() - started < 4000, 'twenty clients came and went');
  busy.close();
});

test('a message in single bytes, thousands of them, is served whatever lies in the socket', () => {
  const client = RawClient.ready(server.path('lender'));
  const request = message(
    { command: VFIO_USER_REGION_READ },
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0]),
  );
  // No reply is taken until all is sent: more than the socket holds if nothing is taken out of it.
  for (let i = 0; i < 60; i++) for (let at = 0; at < request.length; at++) client.send(request.subarray(at, at + 1));
  for (let i = 0; i < 60; i++) assert.equal(client.receive()?.error, 0);
  client.close();
});

test('a last message and the end of the stream in one go: both are seen', async () => {
  for (let i = 0; i < 20; i++) {
    const client = RawClient.ready(server.path('lender'));
    const request = message({ command: VFIO_USER_REGION_READ }, Buffer.alloc(16));
    client.send(Buffer.concat([request, request]));
    client.endSending();
    assert.notEqual(client.receive(), null);
    assert.notEqual(client.receive(), null);
    assert.equal(client.receive(), null, 'the server ends the connection, too');
    client.close();
    await sleep(0);
  }
  await server.assertNothingLeft();
});
