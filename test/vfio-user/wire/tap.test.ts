import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createEventfd } from '../../../src/linux/eventfd.ts';
import { type TappedMessage, Taps } from '../../../src/vfio-user/wire/tap.ts';

test('a tapped message is a copy that holds no other memory', () => {
  const heard: TappedMessage[] = [];
  const taps = new Taps((message) => heard.push(message));
  assert.deepEqual([taps.nextConnection(), taps.nextConnection()], [1, 2]);
  const eventfd = createEventfd('test');
  const receiveBuffer = Buffer.alloc(65536, 7);
  taps.of('twin', 'lender', 2, 99)(true, receiveBuffer.subarray(100, 116), [eventfd.fd]);
  receiveBuffer.fill(0);
  eventfd.close();
  const [{ atMs, ...rest }] = heard;
  assert.ok(Math.abs(atMs - Date.now()) < 60_000);
  assert.deepEqual(rest, {
    ...{ kind: 'twin', device: 'lender', connection: 2, pid: 99, isSent: true },
    ...{ fds: [{ kind: 'eventfd', sizeBytes: 0 }], bytes: new Uint8Array(16).fill(7) },
  });
  assert.equal(rest.bytes.buffer.byteLength, 16);
});
