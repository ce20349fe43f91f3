/** argsz and the reply sizes of every command that has them: one rule for all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_VERSION,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_region_access,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();
const MOST = 1 << 20;
const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;

function words(...values: number[]): Buffer {
  return Buffer.from(new Uint32Array(values).buffer);
}

/** Commands whose payload begins with argsz, the size of the struct, and an otherwise valid payload. */
const SIZED: [string, number, number, number[]][] = [
  ['DMA_MAP', VFIO_USER_DMA_MAP, 32, [3, 0, 0, 0x1000000, 0, 4096, 0]],
  ['DMA_UNMAP', VFIO_USER_DMA_UNMAP, 24, [0, 0x1000000, 0, 4096, 0]],
  ['GET_INFO', VFIO_USER_DEVICE_GET_INFO, 16, [0, 0, 0]],
  ['GET_REGION_INFO', VFIO_USER_DEVICE_GET_REGION_INFO, 32, [0, 7, 0, 0, 0, 0, 0]],
  ['GET_REGION_IO_FDS', VFIO_USER_DEVICE_GET_REGION_IO_FDS, 16, [0, 0, 0]],
  ['GET_IRQ_INFO', VFIO_USER_DEVICE_GET_IRQ_INFO, 16, [0, 2, 0]],
  ['SET_IRQS', VFIO_USER_DEVICE_SET_IRQS, 20, [0x24, 2, 0, 1]],
  ['DEVICE_FEATURE', VFIO_USER_DEVICE_FEATURE, 8, [PROBE | 1]],
  ['MIG_DATA_READ', VFIO_USER_MIG_DATA_READ, 8, [0]],
  ['MIG_DATA_WRITE', VFIO_USER_MIG_DATA_WRITE, 8, [0]],
  ['GET_PCI_HOT_RESET_INFO', VFIO_USER_X_GET_PCI_HOT_RESET_INFO, 12, [0, 0]],
  ['PCI_HOT_RESET', VFIO_USER_X_PCI_HOT_RESET, 12, [0, 0]],
];

test('argsz has room for the struct, and for no more data than a message carries', () => {
  const client = RawClient.ready(server.path('lender'));
  const states = (state: number) => words(16, SET | 2, state, 0);
  for (const [name, command, size, rest] of SIZED) {
    const ask = (argsz: number) => client.outcome({ command }, words(argsz, ...rest));
    assert.equal(ask(size - 1), 'EINVAL', `${name}: too small`);
    assert.equal(ask(size + MOST + 1), 'EINVAL', `${name}: too large`);
    assert.equal(client.outcome({ command }, words(size, ...rest).subarray(0, size - 1)), 'EINVAL', `${name}: cut`);
    if (command === VFIO_USER_MIG_DATA_READ) client.call({ command: VFIO_USER_DEVICE_FEATURE }, states(6));
    if (command === VFIO_USER_MIG_DATA_WRITE) client.call({ command: VFIO_USER_DEVICE_FEATURE }, states(4));
    assert.equal(ask(size), 'ok', `${name}: exact`);
    if (command === VFIO_USER_DMA_MAP || command === VFIO_USER_DMA_UNMAP) continue;
    assert.equal(ask(size + MOST), 'ok', `${name}: as large as can be`);
    if (command === VFIO_USER_MIG_DATA_WRITE) client.call({ command: 13 });
  }
  client.close();
});

test('DEVICE_FEATURE: the reply to PROBE and SET is the request, that to GET as long as the feature', () => {
  const client = RawClient.ready(server.path('lender'));
  const ask = (payload: Buffer) => client.call({ command: VFIO_USER_DEVICE_FEATURE }, payload);
  for (const feature of [1, 2, 3, 5, 6, 7, 8, 9, 11]) {
    for (const payload of [words(8, PROBE | feature), words(4096, PROBE | feature), words(64, PROBE | feature, 7, 8)]) {
      const reply = ask(payload);
      assert.equal(reply.error, 0, `feature ${feature}`);
      assert.deepEqual(reply.payload, payload, `feature ${feature}`);
    }
  }
  for (const [feature, bytes] of [
    [1, 8],
    [2, 8],
    [9, 8],
  ]) {
    for (const argsz of [8 + bytes, 64, 4096]) {
      for (const payload of [
        words(argsz, GET | feature),
        Buffer.concat([words(argsz, GET | feature), Buffer.alloc(argsz - 8)]),
      ]) {
        const reply = ask(payload);
        assert.equal(reply.error, 0);
        assert.equal(reply.payload.length, 8 + bytes, `feature ${feature}, argsz ${argsz}`);
        assert.deepEqual([reply.payload.readUInt32LE(0), reply.payload.readUInt32LE(4)], [8 + bytes, GET | feature]);
      }
    }
    assert.equal(client.outcome({ command: VFIO_USER_DEVICE_FEATURE }, words(8, GET | feature)), 'EINVAL');
  }
  const stop = words(64, SET | 2, 1, 77);
  assert.deepEqual(ask(stop).payload, stop, 'SET of a state');
  assert.deepEqual(ask(words(16, SET | 2, 2, 0)).payload, words(16, SET | 2, 2, 0));
  const start = words(24, SET | 6, 4096, 0, 0, 0);
  assert.deepEqual(ask(start).payload, start, 'SET that starts a log');
  assert.deepEqual(ask(words(8, SET | 7)).payload, words(8, SET | 7));
  client.close();
});

test('the lower of both limits counts for every transfer, to the byte', () => {
  const client = new RawClient(server.path('lender'));
  const version = Buffer.from('\0\0\0\0{"capabilities":{"max_data_xfer_size":4,"write_multiple":true}}\0');
  assert.equal(client.call({ command: VFIO_USER_VERSION }, version).error, 0);
  const access = (count: number) => vfio_user_region_access.encode({ offset: 0x3c, region: 7, count });
  const data = (count: number) => Buffer.concat([access(count), Buffer.alloc(count)]);
  const multi = (count: number) => {
    const one = Buffer.alloc(32);
    one.writeBigUInt64LE(1n, 0);
    one.writeUInt32LE(0x3c, 8);
    one.writeUInt32LE(7, 16);
    one.writeUInt32LE(count, 20);
    return one;
  };
  for (const [count, expected] of [
    [4, 'ok'],
    [5, 'EINVAL'],
  ] as const) {
    assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, access(count)), expected);
    assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE }, data(count)), expected);
    assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE_MULTI }, multi(count)), expected);
  }
  client.call({ command: VFIO_USER_DEVICE_FEATURE }, words(16, SET | 2, 6, 0));
  assert.equal(client.outcome({ command: VFIO_USER_MIG_DATA_READ }, words(12, 4)), 'ok');
  assert.equal(client.outcome({ command: VFIO_USER_MIG_DATA_READ }, words(13, 5)), 'EINVAL');
  client.call({ command: VFIO_USER_DEVICE_FEATURE }, words(16, SET | 2, 4, 0));
  assert.equal(client.outcome({ command: VFIO_USER_MIG_DATA_WRITE }, words(12, 4, 0)), 'ok');
  assert.equal(
    client.outcome({ command: VFIO_USER_MIG_DATA_WRITE }, Buffer.concat([words(13, 5, 0), Buffer.alloc(1)])),
    'EINVAL',
  );
  client.call({ command: 13 });
  client.close();
});

test('SET_IRQS: descriptors come with eventfds alone, and argsz says how much data there is', () => {
  const client = RawClient.ready(server.path('lender'));
  const event = createEventfd();
  const irqs = (payload: Buffer, fds: number[] = []) =>
    client.outcome({ command: VFIO_USER_DEVICE_SET_IRQS }, payload, fds);
  assert.equal(irqs(words(20, 0x24, 2, 0, 1), [event.fd]), 'ok');
  assert.equal(irqs(words(20, 0x21, 2, 0, 1), [event.fd]), 'EINVAL', 'DATA_NONE');
  assert.equal(irqs(Buffer.concat([words(21, 0x22, 2, 0, 1), Buffer.from([1])]), [event.fd]), 'EINVAL', 'DATA_BOOL');
  assert.equal(irqs(Buffer.concat([words(21, 0x22, 2, 0, 1), Buffer.from([1])])), 'ok');
  assert.equal(irqs(Buffer.concat([words(20, 0x22, 2, 0, 1), Buffer.from([1])])), 'EINVAL', 'data past argsz');
  event.close();
  client.close();
});
