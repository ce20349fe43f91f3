/** The result of VERSION in both directions. Both sides must keep to it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { O_CLOEXEC, O_RDWR } from '../../src/abi/fcntl.ts';
import {
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
  vfio_user_region_write_multi,
} from '../../src/abi/vfio-user.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { RawClient } from './raw-client.ts';
import { version, withScript } from './scripted-server.ts';
import { withServer } from './served.ts';

const server = await withServer();
const FULL = {
  max_msg_fds: 16,
  max_data_xfer_size: 1 << 20,
  max_dma_maps: 65535,
  pgsizes: 4096,
  write_multiple: true,
};

function proposing(capabilities: object): { client: RawClient; reply: ReturnType<RawClient['call']>; said: Said } {
  const client = new RawClient(server.path('borrower'));
  const payload = Buffer.from(version(capabilities).payload, 'hex');
  const reply = client.call({ command: VFIO_USER_VERSION }, payload);
  const said = reply.error === 0 ? JSON.parse(reply.payload.subarray(4, -1).toString()).capabilities : {};
  return { client, reply, said };
}
type Said = Record<string, unknown> & { twin_socket?: { supported: boolean; fd_index: number } };

async function whenFree(): Promise<void> {
  await server.assertNothingLeft();
}

test('the server says no capability that the client did not propose; limits are always said', async () => {
  const { client, said, reply } = proposing({});
  assert.deepEqual(Object.keys(said).sort(), ['max_data_xfer_size', 'max_dma_maps', 'max_msg_fds', 'pgsizes']);
  assert.equal(reply.fds.length, 0);
  const none = vfio_user_region_write_multi.encode({ wr_cnt: 0 });
  assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE_MULTI }, none), 'EOPNOTSUPP');
  client.close();
  await whenFree();
  const other = proposing({ write_multiple: true, migration: { pgsize: 4096 }, twin_socket: { supported: false } });
  assert.equal(other.said.write_multiple, true);
  assert.equal(other.said.twin_socket, undefined);
  assert.equal(other.client.outcome({ command: VFIO_USER_REGION_WRITE_MULTI }, none), 'ok');
  other.client.close();
  await whenFree();
});

for (const [name, capabilities] of [
  ['pages that are too small', { pgsizes: 512 }],
  ['no pages', { pgsizes: 0 }],
  ['a twin socket that is not an object', { twin_socket: true }],
  ['a twin socket that may be', { twin_socket: { supported: 'yes' } }],
  ['a migration that is a list', { migration: [] }],
  ['migration pages of text', { migration: { pgsize: '4096' } }],
  ['migration pages that are too small', { migration: { pgsize: 1024 } }],
] as const) {
  test(`VERSION with ${name}: EINVAL`, async () => {
    const { client, reply } = proposing(capabilities);
    assert.equal(reply.error, 22);
    client.assertDropped();
    client.close();
    await whenFree();
  });
}

test('pgsizes: DMA_MAP takes multiples of the smallest page that both have', async () => {
  for (const [pgsizes, outcomes] of [
    [512 | 4096, ['ok', 'ok', 'ok']],
    [8192, ['EINVAL', 'ok', 'EINVAL']],
    [(2 ** 21) | (2 ** 30), ['EINVAL', 'EINVAL', 'EINVAL']],
  ] as const) {
    const { client } = proposing({ pgsizes });
    const map = (addr: number, size: number) =>
      client.outcome({ command: VFIO_USER_DMA_MAP }, vfio_user_dma_map.encode({ argsz: 32, flags: 3, addr, size }));
    assert.deepEqual([map(4096, 4096), map(8192, 8192), map(0x5000, 8192)], outcomes, `${pgsizes}`);
    client.close();
    await whenFree();
  }
});

test('max_dma_maps: the server says no more than the client did; the default binds nobody', async () => {
  for (const [asked, said] of [
    [{}, 65535],
    [{ max_dma_maps: 65535 }, 65535],
    [{ max_dma_maps: 3 }, 3],
    [{ max_dma_maps: 300_000 }, 300_000],
    [{ max_dma_maps: 2 ** 30 }, LIMITS.maxDmaMaps],
  ] as const) {
    const { client, said: reply } = proposing(asked);
    assert.equal(reply.max_dma_maps, said);
    client.close();
    await whenFree();
  }
});

test('max_msg_fds 0: no descriptor comes, and what could be mapped is reached by messages', async () => {
  const client = new RawClient(server.path('lender'));
  const payload = Buffer.from(version({ max_msg_fds: 0, twin_socket: { supported: true } }).payload, 'hex');
  const reply = client.call({ command: VFIO_USER_VERSION }, payload);
  assert.equal(reply.fds.length, 0);
  assert.doesNotMatch(reply.payload.toString(), /twin/);
  const ask = Buffer.alloc(32);
  ask.writeUInt32LE(32);
  const info = client.call({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, ask);
  assert.equal(info.fds.length, 0);
  assert.equal(info.payload.readUInt32LE(4) & 4, 0, 'no FLAG_MMAP');
  const dmaBuf = Buffer.alloc(40);
  for (const [at, value] of [
    [0, 40],
    [4, 11 | (1 << 16)],
    [12, O_CLOEXEC | O_RDWR],
    [20, 1],
    [32, 4096],
  ]) {
    dmaBuf.writeUInt32LE(value, at);
  }
  assert.equal(client.outcome({ command: 16 }, dmaBuf), 'EMSGSIZE', 'a dma-buf is a descriptor');
  client.close();
  await whenFree();
});

/** A client that makes the borrower's engine copy from memory that is reached by messages. */
function copyByMessages(client: VfioUserClient): Buffer {
  const bytes = Buffer.alloc(0x20000);
  bytes.fill('barter', 0x10, 0x10 + 70_000);
  client.memory = {
    read: (address, into) => void into.set(bytes.subarray(address - 0x100000, address - 0x100000 + into.length)),
    write: (address, from) => void bytes.set(from, address - 0x100000),
  };
  client.dmaMap(0x100000, 0x20000, 3);
  const driver = new IoatDriver(client);
  driver.submit(0x100010, 0x110020, 60_000);
  assert.equal(driver.wait(5000), 'ok', 'the interrupt, with DMA answered meanwhile');
  driver.close();
  assert.deepEqual(bytes.subarray(0x10020, 0x10020 + 60_000), bytes.subarray(0x10, 0x10 + 60_000));
  return bytes;
}

test('a twin socket carries DMA_READ and DMA_WRITE; without it they come between the replies', async () => {
  for (const twinSocket of [true, false]) {
    const client = new VfioUserClient(server.path('borrower'), { twinSocket });
    assert.equal(client.hasTwinSocket, twinSocket);
    copyByMessages(client);
    client.close();
    await whenFree();
  }
});

test('twin socket: commands on it and replies beside it end the connection; so does its end', async () => {
  const open = () => {
    const { client, reply, said } = proposing({ max_msg_fds: 4, twin_socket: { supported: true } });
    assert.deepEqual(said.twin_socket, { supported: true, fd_index: 0 });
    assert.equal(reply.fds.length, 1);
    return { client, twin: RawClient.over(reply.fds[0]) };
  };
  const reply = { command: VFIO_USER_DMA_WRITE, flags: 1 };
  for (const misbehave of [
    ({ twin }: ReturnType<typeof open>) => void twin.sendMessage({ command: VFIO_USER_REGION_WRITE }),
    ({ twin }: ReturnType<typeof open>) => void twin.sendMessage(reply, Buffer.alloc(16)),
    ({ client }: ReturnType<typeof open>) => void client.sendMessage(reply, Buffer.alloc(16)),
    ({ twin }: ReturnType<typeof open>) => twin.close(),
  ]) {
    const both = open();
    misbehave(both);
    both.client.assertDropped();
    both.client.close();
    both.twin.close();
    await whenFree();
  }
});

test('client: a VERSION reply that contradicts itself is EPROTO', async () => {
  for (const [reply, twinSocket] of [
    [version({ ...FULL, twin_socket: { supported: true, fd_index: 0 } }), true],
    [version({ ...FULL, twin_socket: { supported: true } }), true],
    [{ ...version({ ...FULL, twin_socket: { supported: true, fd_index: 1 } }), fds: 1 }, true],
    [{ ...version({ ...FULL, twin_socket: { supported: true, fd_index: 0 } }), fds: 1 }, false],
    [version(FULL, 1), false],
  ] as const) {
    await withScript([reply], (path) => {
      assert.throws(() => new VfioUserClient(path, { twinSocket }), /EPROTO/);
    });
  }
  await withScript([version(FULL)], (path) => {
    const client = new VfioUserClient(path, { twinSocket: true });
    assert.equal(client.hasTwinSocket, false, 'a server may decline');
    client.close();
  });
});

test('client: keeps to the limits of the server before anything leaves', async () => {
  const events = Array.from({ length: 5 }, () => createEventfd());
  const ok = { payload: '' };
  const limits = { max_msg_fds: 2, max_data_xfer_size: 8, max_dma_maps: 2, pgsizes: 8192, write_multiple: false };
  const writeReply = (count: number) => ({ payload: `0000000000000000000000000${count}000000` });
  const seen = await withScript(
    [version(limits), ok, ok, ok, ok, ok, ok, writeReply(8), writeReply(4), writeReply(4)],
    (path) => {
      const client = new VfioUserClient(path);
      assert.throws(() => client.call(9, Buffer.alloc(16), [events[0].fd, events[1].fd, events[2].fd]), /EMSGSIZE/);
      const fds = events.map((event) => event.fd);
      client.setIrqs(0x24, 2, 1, 5, undefined, fds);
      assert.throws(() => client.dmaMap(4096, 8192, 3), /EINVAL/);
      client.dmaMap(8192, 8192, 3);
      client.dmaMap(16384, 8192, 3);
      assert.throws(() => client.dmaMap(32768, 8192, 3), /ENOSPC/);
      client.writeRegion(0, 0, Buffer.alloc(12));
      assert.equal(client.writeRegions([{ region: 0, offset: 4, bytes: Buffer.alloc(4) }]), 1, 'one by one');
      client.close();
    },
  );
  for (const event of events) event.close();
  const irqs = seen.filter((each) => each.command === VFIO_USER_DEVICE_SET_IRQS);
  assert.deepEqual(
    irqs.map((each) => [each.fds, Buffer.from(each.payload, 'hex').readUInt32LE(12)]),
    [
      [0, 1],
      [2, 1],
      [2, 3],
      [1, 5],
    ],
    'SET_IRQS for all, then in parts, each behind the last',
  );
  const writes = seen.filter((each) => each.command === VFIO_USER_REGION_WRITE);
  assert.deepEqual(
    writes.map((each) => each.payload.length / 2 - 16),
    [8, 4, 4],
  );
  assert.ok(!seen.some((each) => each.command === VFIO_USER_REGION_WRITE_MULTI));
});

test('client: WRITE_MULTI in messages of 200, done in order, and counted up to the first that fails', async () => {
  const client = new VfioUserClient(server.path('lender'));
  const writes = Array.from({ length: 450 }, (_, i) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(i + 1);
    return { region: 0, offset: 4 * i, bytes };
  });
  assert.equal(client.writeRegions(writes), 450);
  const back = Buffer.alloc(1800);
  client.readRegion(0, 0, back);
  for (let i = 0; i < 450; i++) assert.equal(back.readUInt32LE(4 * i), i + 1);
  writes[317] = { ...writes[317], region: 5 };
  assert.equal(client.writeRegions(writes), 317);
  assert.throws(() => client.writeRegions([{ region: 0, offset: 0, bytes: Buffer.alloc(9) }]), /EINVAL/);
  client.close();
  await whenFree();
});
