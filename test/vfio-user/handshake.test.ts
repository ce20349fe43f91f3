import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VFIO_USER_DEVICE_GET_INFO, VFIO_USER_REGION_READ, VFIO_USER_VERSION } from '../../src/abi/vfio-user.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { decodeVersion, encodeVersion } from '../../src/vfio-user/wire/version.ts';
import { message, RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();

function version(major: number, minor: number, json: string | null): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(major, 0);
  head.writeUInt16LE(minor, 2);
  return json === null ? head : Buffer.concat([head, Buffer.from(`${json}\0`)]);
}

function agrees(payload: Buffer): string {
  const client = new RawClient(server.path('lender'));
  try {
    const outcome = client.outcome({ command: VFIO_USER_VERSION }, payload);
    if (outcome === 'ok') {
      const info = Buffer.alloc(16);
      info.writeUInt32LE(16);
      assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_INFO }, info), 'ok');
    } else client.assertDropped();
    return outcome;
  } finally {
    client.close();
  }
}

/** Another thread notices a client's end, so the device is free a moment later. */
async function whenFree<T>(body: () => T): Promise<T> {
  await server.assertNothingLeft();
  return body();
}

test('QEMU takes the reply: version 0.0, at most 214 bytes, limits within its own', () => {
  const client = new RawClient(server.path('lender'));
  const reply = client.call({ command: VFIO_USER_VERSION }, version(0, 0, '{"capabilities":{"max_msg_fds":16}}'));
  assert.equal(reply.error, 0);
  assert.ok(16 + reply.payload.length <= 214, `${16 + reply.payload.length} bytes`);
  assert.equal(reply.payload.readUInt32LE(0), 0, 'version 0.0');
  assert.equal(reply.payload.at(-1), 0, 'a terminating zero');
  const { capabilities } = JSON.parse(reply.payload.subarray(4, -1).toString());
  assert.ok(capabilities.max_msg_fds <= 16);
  assert.equal(capabilities.pgsizes % 4096, 0);
  assert.ok(capabilities.max_dma_maps <= 65535);
  assert.equal(capabilities.max_data_xfer_size, LIMITS.maxDataXferBytes);
  client.close();
});

for (const [name, payload, outcome] of [
  [
    '0.1 with the JSON of rust-vmm',
    version(0, 1, '{"capabilities":{"max_msg_fds":1,"migration":{"pgsize":4096}}}'),
    'ok',
  ],
  ['no JSON', version(0, 0, null), 'ok'],
  ['an empty string', version(0, 0, ''), 'ok'],
  ['an empty object', version(0, 0, '{}'), 'ok'],
  ['capabilities that nobody knows', version(0, 0, '{"capabilities":{"cheese":true},"x":[1]}'), 'ok'],
  ['no terminating zero', version(0, 0, '{}').subarray(0, -1), 'EINVAL'],
  ['a minor version of the future', version(0, 77, '{}'), 'ok'],
  ['another major version', version(1, 0, '{}'), 'EINVAL'],
  ['half a struct', version(0, 0, null).subarray(0, 3), 'EINVAL'],
  ['no payload', Buffer.alloc(0), 'EINVAL'],
  ['JSON that is none', version(0, 0, '{"capabilities":'), 'EINVAL'],
  ['bytes that are not text', Buffer.concat([version(0, 0, null), Buffer.from([0xff, 0xfe, 0x80])]), 'EINVAL'],
  ['a list', version(0, 0, '[]'), 'EINVAL'],
  ['a number for capabilities', version(0, 0, '{"capabilities":3}'), 'EINVAL'],
  ['a text for a number', version(0, 0, '{"capabilities":{"max_msg_fds":"8"}}'), 'EINVAL'],
  ['a fraction', version(0, 0, '{"capabilities":{"max_dma_maps":1.5}}'), 'EINVAL'],
  ['a negative number', version(0, 0, '{"capabilities":{"max_data_xfer_size":-1}}'), 'EINVAL'],
  ['a number for a boolean', version(0, 0, '{"capabilities":{"write_multiple":1}}'), 'EINVAL'],
  ['JSON nested 100,000 deep', version(0, 0, '['.repeat(100_000)), 'EINVAL'],
  ['a prototype', version(0, 0, '{"capabilities":{"__proto__":{"max_msg_fds":"x"}}}'), 'ok'],
] as const) {
  test(`VERSION with ${name}: ${outcome}`, () => whenFree(() => assert.equal(agrees(payload), outcome)));
}

test('a second VERSION is refused, and the session goes on', () =>
  whenFree(() => {
    const client = RawClient.ready(server.path('lender'));
    assert.equal(client.outcome({ command: VFIO_USER_VERSION }, encodeVersion()), 'EINVAL');
    const read = Buffer.alloc(16);
    read.writeUInt32LE(7, 8);
    read.writeUInt32LE(4, 12);
    assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, read), 'ok');
    client.close();
  }));

test('a command before VERSION ends the connection', () =>
  whenFree(() => {
    const client = new RawClient(server.path('lender'));
    assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_INFO }, Buffer.alloc(16)), 'EPROTO');
    client.assertDropped();
    client.close();
  }));

test('a VERSION that wants no reply ends as one that does, and a reply before VERSION ends the connection', () =>
  whenFree(() => {
    const client = new RawClient(server.path('lender'));
    client.send(message({ command: VFIO_USER_VERSION, flags: 0x10 }, version(1, 0, null)));
    client.assertDropped();
    client.close();
    const other = new RawClient(server.path('lender'));
    other.send(message({ command: VFIO_USER_VERSION, flags: 1 }, encodeVersion()));
    other.assertDropped();
    other.close();
  }));

test('a second client is refused with EBUSY, and has the device when the first is gone', async () => {
  await server.assertNothingLeft();
  const first = new VfioUserClient(server.path('lender'));
  assert.throws(() => new VfioUserClient(server.path('lender')), /EBUSY/);
  assert.equal(first.info().numRegions, 9);
  first.close();
  await server.assertNothingLeft();
  const second = new VfioUserClient(server.path('lender'));
  assert.equal(second.info().numRegions, 9);
  second.close();
});

test('what the two sides agreed on is the smaller of both', () => {
  const agreed = decodeVersion(version(0, 0, '{"capabilities":{"max_msg_fds":99,"max_dma_maps":7,"pgsizes":4096}}'));
  assert.equal(agreed.maxMsgFds, LIMITS.maxMsgFds);
  assert.equal(agreed.maxDmaMaps, 7);
  assert.equal(agreed.maxDataXferBytes, LIMITS.maxDataXferBytes);
});

test('nothing is left of all these clients', () => server.assertNothingLeft());
