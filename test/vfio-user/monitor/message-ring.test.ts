import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageRing } from '../../../src/vfio-user/monitor/message-ring.ts';

const MESSAGE = { atMs: 1.5, latencyUs: 7, device: 1, command: 9, errno: 22, requestFds: 1, replyFds: 2 };

test('a message comes with the heads of both payloads; what finds no room is counted', () => {
  const writer = new MessageRing();
  const reader = new MessageRing(writer.memory);
  assert.equal(writer.isWatched, false);
  reader.watch(true);
  assert.equal(writer.isWatched, true);
  const request = Uint8Array.from({ length: 100 }, (_, i) => i);
  const push = (requestBytes: number) => {
    const payloads = { request, requestAt: 10, reply: request, replyAt: 2 };
    writer.push({ ...MESSAGE, requestBytes, replyBytes: 3 }, payloads);
  };
  assert.ok(writer.hasRoom());
  push(90);
  const { exchanges, dropped } = reader.take();
  assert.equal(dropped, 0);
  assert.deepEqual(exchanges, [
    { ...MESSAGE, requestBytes: 90, replyBytes: 3, request: request.slice(10, 50), reply: request.slice(2, 5) },
  ]);
  let kept = 0;
  for (let i = 0; i < 1000; i++) {
    if (!writer.hasRoom()) continue;
    push(i % 100);
    kept += 1;
  }
  const more = reader.take();
  assert.equal(more.exchanges.length, kept);
  assert.deepEqual([more.exchanges.length + more.dropped, reader.take()], [1000, { exchanges: [], dropped: 0 }]);
});
