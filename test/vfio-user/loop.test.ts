/** The means by which a busy client is served fast, and their forbidden side effects. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MSG_DONTWAIT } from '../../src/abi/socket.ts';
import { VFIO_USER_DEVICE_RESET, VFIO_USER_REGION_READ } from '../../src/abi/vfio-user.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { PeekedBytes } from '../../src/linux/peeked-bytes.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
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
  for (let i = 0; i < 20; i++) {
    const other = new VfioUserClient(server.path('bystander'));
    readOften(busy, 30);
    readOften(other, 30);
    other.close();
    readOften(busy, 30);
  }
  busy.close();
});

test('a message in single bytes, thousands of them, is served whatever lies in the socket', () => {
  const client = RawClient.ready(server.path('lender'));
  const request = message(
    { command: VFIO_USER_REGION_READ },
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0]),
  );
  // Sends everything before it reads any reply. The requests do not fit into a socket that the server does not read.
  for (let i = 0; i < 60; i++) for (let at = 0; at < request.length; at++) client.send(request.subarray(at, at + 1));
  for (let i = 0; i < 60; i++) assert.equal(client.receive()?.error, 0);
  client.close();
});

test('only a message that comes alone stays in the socket: a peer that sends more at once needs the room', () => {
  const [ours, theirs] = socketPair();
  const left = new PeekedBytes(ours);
  const reader = new FrameReader();
  const request = message({ command: VFIO_USER_REGION_READ }, Buffer.alloc(16));
  const sendAndRead = (bytes: Buffer, frames: number) => {
    const pinned = new Pinned(bytes.length);
    pinned.bytes.set(bytes);
    sys.send(theirs.fd, pinned.address, bytes.length, MSG_DONTWAIT);
    assert.equal(reader.receive(ours.fd, false, left), bytes.length);
    for (let i = 0; i < frames; i++) assert.notEqual(reader.next(), null);
    assert.equal(reader.next(), null);
    return left.isEmpty;
  };
  assert.equal(sendAndRead(request, 1), true, 'the first is read as ever');
  assert.equal(sendAndRead(request, 1), false);
  assert.equal(sendAndRead(request, 1), false);
  assert.equal(sendAndRead(Buffer.concat([request, request]), 2), true);
  assert.equal(sendAndRead(request, 1), true);
  assert.equal(sendAndRead(request, 1), false);
  assert.equal(sendAndRead(request.subarray(0, 20), 0), true);
  assert.equal(sendAndRead(request.subarray(20), 1), true);
  assert.equal(sendAndRead(request, 1), true);
  assert.equal(sendAndRead(request, 1), false);
  assert.equal(sendAndRead(message({ command: VFIO_USER_DEVICE_RESET }, Buffer.alloc(0)), 1), true, 'no access');
  reader.close();
  ours.close();
  theirs.close();
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
