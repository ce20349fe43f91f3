import assert from 'node:assert/strict';
import { test } from 'node:test';
import { viewOf } from '../../src/abi/layout.ts';
import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  vfio_region_info,
} from '../../src/abi/vfio.ts';
import {
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DIRTY_PAGES,
  VFIO_USER_DMA_READ,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  vfio_user_region_access,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../src/abi/vfio-user.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { message, RawClient } from './raw-client.ts';
import { withServer } from './served.ts';

const server = await withServer();
let client = RawClient.ready(server.path('lender'));

const CONFIG = 7;

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i);
  return bytes;
}

function access(region: number, offset: number | bigint, count: number, data: Uint8Array = new Uint8Array(0)): Buffer {
  return Buffer.concat([vfio_user_region_access.encode({ offset, region, count }), data]);
}

function read(region: number, offset: number, count: number): Buffer {
  const reply = client.call({ command: VFIO_USER_REGION_READ }, access(region, offset, count));
  assert.equal(reply.error, 0);
  assert.equal(reply.payload.readUInt32LE(12), reply.payload.length - 16, 'count is what comes');
  return reply.payload.subarray(16);
}

test('GET_INFO: a PCI device that resets, 9 regions, 5 interrupts; QEMU sends 32 bytes, others 16', () => {
  for (const size of [16, 32]) {
    const request = Buffer.alloc(size);
    request.writeUInt32LE(size);
    const reply = client.call({ command: VFIO_USER_DEVICE_GET_INFO }, request);
    const flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
    assert.deepEqual(reply.payload, words(16, flags, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS));
  }
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_INFO }, words(15, 0, 0, 0)), 'EINVAL');
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_INFO }, words(16, 0, 0)), 'EINVAL');
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_INFO }), 'EINVAL');
});

function askRegion(index: number, argsz: number) {
  const reply = client.call({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, vfio_region_info.encode({ argsz, index }));
  assert.equal(reply.error, 0);
  const { fds } = reply;
  for (const fd of fds) fd.close();
  return { ...vfio_region_info.read(viewOf(reply.payload)), payload: reply.payload, fds: fds.length };
}

test('GET_REGION_INFO: the descriptor comes with the first byte of the full reply, once', () => {
  const bar0 = askRegion(0, 32);
  assert.equal(bar0.size, 1 << 20);
  assert.notEqual(bar0.flags & VFIO_REGION_INFO_FLAG_MMAP, 0);
  assert.equal(bar0.fds, 1);
  assert.equal(bar0.argsz, 32);
});

test('GET_REGION_INFO: the short reply shows no capability, the second ask gets argsz bytes', () => {
  const first = askRegion(2, 32);
  // MSI-X memory without a descriptor cannot be mapped.
  if ((first.flags & VFIO_REGION_INFO_FLAG_MMAP) === 0) {
    assert.deepEqual([first.argsz, first.cap_offset, first.fds], [32, 0, 0]);
    return;
  }
  assert.equal(first.flags & VFIO_REGION_INFO_FLAG_CAPS, 0);
  assert.ok(first.argsz > 32);
  assert.equal(first.cap_offset, 0, 'it would lie past the end');
  assert.equal(first.payload.length, 32);
  assert.equal(first.fds, 0);
  const second = askRegion(2, first.argsz);
  assert.equal(second.payload.length, first.argsz);
  assert.notEqual(second.flags & VFIO_REGION_INFO_FLAG_CAPS, 0);
  assert.equal(second.cap_offset, 32);
  assert.equal(second.fds, 1);
});

test('GET_REGION_INFO: every index of a PCI device has an answer, as rust-vmm needs; others are refused', () => {
  for (let index = 0; index < VFIO_PCI_NUM_REGIONS; index++) assert.ok(askRegion(index, 32).size >= 0);
  assert.equal(askRegion(8, 32).size, 0, 'there is no VGA region');
  assert.equal(askRegion(CONFIG, 32).size, 4096);
  for (const index of [9, 10, 255, 0xffffffff]) {
    const request = words(32, 0, index, 0, 0, 0, 0, 0);
    assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, request), 'EINVAL');
  }
  for (const argsz of [0, 31]) {
    const request = words(argsz, 0, 0, 0, 0, 0, 0, 0);
    assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, request), 'EINVAL');
  }
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_INFO }, words(32, 0, 0)), 'EINVAL');
});

test('GET_REGION_IO_FDS and GET_IRQ_INFO check their argument', () => {
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_IO_FDS }, words(16, 0, 1, 0)), 'EINVAL', 'no BAR');
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_IO_FDS }, words(16, 0, 77, 0)), 'EINVAL');
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_REGION_IO_FDS }, words(15, 0, 0, 0)), 'EINVAL');
  const counts = [0, 1, 2, 3, 4].map((index) => {
    const reply = client.call({ command: VFIO_USER_DEVICE_GET_IRQ_INFO }, words(16, 0, index, 0));
    assert.equal(reply.payload.length, 16);
    return reply.payload.readUInt32LE(12);
  });
  assert.deepEqual(counts, [0, 0, 4, 1, 1]);
  for (const index of [5, 0x80000000, 0xffffffff]) {
    assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_IRQ_INFO }, words(16, 0, index, 0)), 'EINVAL');
  }
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_GET_IRQ_INFO }, words(15, 0, 0, 0)), 'EINVAL');
});

test('REGION_READ and REGION_WRITE: bytes of every width and place arrive', () => {
  for (const [offset, length] of [
    [0, 1],
    [1, 2],
    [3, 4],
    [4096, 8],
    [8191, 4097],
    [(1 << 20) - 1, 1],
  ]) {
    const data = Buffer.from(Array.from({ length }, (_, i) => (i * 7 + offset) & 0xff));
    const written = client.call({ command: VFIO_USER_REGION_WRITE }, access(0, offset, length, data));
    assert.equal(written.payload.length, 16, 'rust-vmm needs 32 bytes of reply');
    assert.equal(written.payload.readUInt32LE(12), length);
    assert.deepEqual(read(0, offset, length), data);
  }
  assert.equal(read(0, 0, 1 << 20).length, 1 << 20, 'the most that one message takes');
});

test('REGION_READ and REGION_WRITE: what is refused, and what is cut at the end', () => {
  const refused = (command: number, region: number, offset: number | bigint, count: number, data?: Uint8Array) =>
    client.outcome({ command }, access(region, offset, count, data));
  assert.equal(refused(VFIO_USER_REGION_READ, 1, 0, 4), 'EINVAL', 'an absent BAR');
  assert.equal(refused(VFIO_USER_REGION_READ, 9, 0, 4), 'EINVAL');
  assert.equal(refused(VFIO_USER_REGION_READ, 0xffffffff, 0, 4), 'EINVAL');
  assert.equal(refused(VFIO_USER_REGION_READ, 0, 1 << 20, 1), 'EINVAL', 'behind the end');
  assert.equal(refused(VFIO_USER_REGION_READ, 0, (1n << 64n) - 1n, 4), 'EOVERFLOW');
  assert.equal(refused(VFIO_USER_REGION_READ, 0, 0, LIMITS.maxDataXferBytes + 1), 'EINVAL');
  assert.equal(refused(VFIO_USER_REGION_READ, 0, 0, 0xffffffff), 'EINVAL');
  assert.equal(refused(VFIO_USER_REGION_WRITE, 0, 0, 8, Buffer.alloc(4)), 'EINVAL', 'fewer bytes than it says');
  assert.equal(refused(VFIO_USER_REGION_WRITE, 0, 0, 4, Buffer.alloc(8)), 'EINVAL', 'more bytes than it says');
  assert.equal(refused(VFIO_USER_REGION_WRITE, 6, 0, 4, Buffer.alloc(4)), 'EINVAL', 'the ROM');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, Buffer.alloc(15)), 'EINVAL');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE }, Buffer.alloc(15)), 'EINVAL');
  assert.equal(read(0, (1 << 20) - 2, 8).length, 2);
  const cut = client.call({ command: VFIO_USER_REGION_WRITE }, access(0, (1 << 20) - 2, 4, Buffer.alloc(4)));
  assert.equal(cut.payload.readUInt32LE(12), 2);
});

test('while memory is off, its regions give EIO, and config space goes on', () => {
  const command = read(CONFIG, 4, 2);
  assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE }, access(CONFIG, 4, 2, Buffer.alloc(2))), 'ok');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_READ }, access(0, 0, 4)), 'EIO');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE }, access(0, 0, 4, Buffer.alloc(4))), 'EIO');
  assert.equal(client.outcome({ command: VFIO_USER_REGION_WRITE }, access(CONFIG, 4, 2, command)), 'ok');
  assert.equal(read(0, 0, 4).length, 4);
});

test('posted writes are done in order, have no reply, and fail in silence', () => {
  const posted = { command: VFIO_USER_REGION_WRITE, flags: VFIO_USER_F_NO_REPLY };
  for (let i = 0; i < 1000; i++) client.send(message(posted, access(0, 4 * i, 4, words(i))));
  client.send(message(posted, access(5, 0, 4, words(1))));
  const bytes = read(0, 0, 4000);
  for (let i = 0; i < 1000; i++) assert.equal(bytes.readUInt32LE(4 * i), i);
});

function multi(
  writes: { offset: number; region: number; count: number; data: bigint }[],
  said = writes.length,
): Buffer {
  const head = vfio_user_region_write_multi.encode({ wr_cnt: said });
  return Buffer.concat([head, ...writes.map((write) => vfio_user_write_one.encode(write))]);
}

test('WRITE_MULTI writes all in order, and counts those before a failure', () => {
  const writes = Array.from({ length: 200 }, (_, i) => ({ offset: 4 * i, region: 0, count: 4, data: BigInt(i + 1) }));
  const reply = client.call({ command: VFIO_USER_REGION_WRITE_MULTI }, multi(writes));
  assert.equal(reply.payload.readBigUInt64LE(0), 200n);
  const bytes = read(0, 0, 800);
  for (let i = 0; i < 200; i++) assert.equal(bytes.readUInt32LE(4 * i), i + 1);
  const broken = client.call(
    { command: VFIO_USER_REGION_WRITE_MULTI },
    multi([writes[0], { ...writes[1], region: 5 }]),
  );
  assert.equal(broken.payload.readBigUInt64LE(0), 1n);
  const outcome = (payload: Buffer) => client.outcome({ command: VFIO_USER_REGION_WRITE_MULTI }, payload);
  assert.equal(outcome(multi([{ ...writes[0], region: 5 }])), 'EINVAL');
  assert.equal(outcome(multi([{ ...writes[0], count: 9 }])), 'EINVAL');
  assert.equal(outcome(multi(writes, 199)), 'EINVAL');
  assert.equal(outcome(multi(writes, 2 ** 40)), 'EINVAL');
  assert.equal(outcome(Buffer.alloc(7)), 'EINVAL');
  assert.equal(outcome(multi([])), 'ok');
});

test('RESET restores config space behind it, as Linux does, and clears what is behind the BARs', async () => {
  client.send(message({ command: VFIO_USER_REGION_WRITE }, access(CONFIG, 4, 2, Buffer.from([6, 0]))));
  assert.equal(client.receive()?.error, 0);
  assert.equal(client.outcome({ command: VFIO_USER_DEVICE_RESET }), 'ok');
  assert.equal(read(CONFIG, 4, 2).readUInt16LE() & 6, 6);
  const borrower = new VfioUserClient(server.path('borrower'));
  borrower.writeRegion(0, 0x1000, words(1, 2, 3, 4));
  borrower.reset();
  const ring = Buffer.alloc(16);
  borrower.readRegion(0, 0x1000, ring);
  assert.deepEqual(ring, words(0, 0, 0, 0));
  borrower.close();
});

test('unknown commands get ENOSYS, also those that only servers send', () => {
  for (const command of [0, VFIO_USER_DIRTY_PAGES, VFIO_USER_DMA_READ, 12, 19, 100, 0x8003, 0xffff]) {
    assert.equal(client.outcome({ command }, Buffer.alloc(64)), 'ENOSYS', `command ${command}`);
  }
});

test('replies carry the id of their command, and pipelined commands are answered in order', () => {
  const batch = Array.from({ length: 50 }, (_, i) =>
    message({ id: 60_000 + i, command: VFIO_USER_REGION_READ }, access(CONFIG, 0, 4)),
  );
  client.send(Buffer.concat(batch));
  for (let i = 0; i < 50; i++) assert.equal(client.receive()?.id, 60_000 + i);
});

test('the blocking client agrees with all of this', async () => {
  client.close();
  await server.assertNothingLeft();
  const blocking = new VfioUserClient(server.path('lender'));
  const bytes = Buffer.from('posted and not');
  blocking.writeRegion(0, 64, bytes, true);
  const back = Buffer.alloc(bytes.length);
  blocking.readRegion(0, 64, back);
  assert.deepEqual(back, bytes);
  const mapping = blocking.mapRegion(0, 0, 4096);
  assert.equal(Buffer.from(mapping.bytes.subarray(64, 64 + bytes.length)).toString(), 'posted and not');
  mapping.close();
  assert.deepEqual(blocking.info(), { flags: 3, numRegions: 9, numIrqs: 5 });
  blocking.close();
  await server.assertNothingLeft();
  client = RawClient.ready(server.path('lender'));
});

test('nothing is left', async () => {
  client.close();
  await server.assertNothingLeft();
});
