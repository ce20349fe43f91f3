import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareReplies } from '../../../src/vfio-user/exchange/compare.ts';
import { message } from '../raw-client.ts';

const reply = (command: number, payload: Buffer, error = 0) => ({
  bytes: message({ command, flags: error === 0 ? 1 : 0x21, error }, payload),
  fds: [],
});

function version(json: string) {
  return reply(1, Buffer.concat([Buffer.from([0, 0, 1, 0]), Buffer.from(`${json}\0`)]));
}

test('capabilities are compared one by one; their order, spaces and the twin socket do not count', () => {
  const was = version('{"capabilities":{"max_msg_fds":16,"pgsizes":4096,"twin_socket":{"supported":true}}}');
  assert.deepEqual(compareReplies(was, version('{ "capabilities": { "pgsizes": 4096, "max_msg_fds": 16 } }')), []);
  assert.deepEqual(compareReplies(was, version('{"capabilities":{"max_msg_fds":8,"pgsizes":4096,"x":1}}')), [
    { field: 'capabilities.max_msg_fds', was: '16', is: '8' },
    { field: 'capabilities.x', was: 'nothing', is: '1' },
  ]);
});

test('data is compared to its last byte, and descriptors by their kinds', () => {
  const payload = Buffer.alloc(16 + 100);
  const other = Buffer.from(payload);
  other[115] = 1;
  assert.deepEqual(
    compareReplies(reply(9, payload), reply(9, other)).map(({ field }) => field),
    ['data'],
  );
  assert.deepEqual(compareReplies(reply(9, payload), { ...reply(9, payload), fds: [{ kind: 'file', sizeBytes: 1 }] }), [
    { field: 'descriptors', was: 'none', is: 'file' },
  ]);
});

test('an errno differs from success and from another errno; the payload of an error does not count', () => {
  const [busy, invalid] = [reply(13, Buffer.from('abc'), 16), reply(13, Buffer.alloc(0), 22)];
  assert.deepEqual(compareReplies(busy, invalid), [{ field: 'errno', was: 'EBUSY', is: 'EINVAL' }]);
  assert.deepEqual(compareReplies(busy, reply(13, Buffer.alloc(0), 16)), []);
  assert.equal(compareReplies(reply(13, Buffer.alloc(0)), busy)[0].is, 'EBUSY');
});
