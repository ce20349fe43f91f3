/** GET_REGION_IO_FDS: a write to a doorbell by an eventfd reaches the device as a message would. */
import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../src/abi/vfio-user.ts';
import { DMA_COMPLETED, DMA_CONTROL, DMA_NOTIFY, DMA_RING } from '../../src/device/dma.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { RawClient } from './raw-client.ts';
import { version, withScript } from './scripted-server.ts';
import { withServer } from './served.ts';

const server = await withServer();
const IO_FDS = { command: VFIO_USER_DEVICE_GET_REGION_IO_FDS };
const ask = (argsz: number, index: number) => vfio_user_region_io_fds.encode({ argsz, index });

test('the reply: size first, then a place with its descriptor; nothing where there is no doorbell', async () => {
  const client = RawClient.ready(server.path('borrower'));
  const short = client.call(IO_FDS, ask(16, 0));
  assert.deepEqual([short.payload.length, short.payload.readUInt32LE(0), short.fds.length], [16, 56, 0]);
  assert.equal(short.payload.readUInt32LE(12), 1, 'count');
  for (let i = 0; i < 100; i++) {
    const full = client.call(IO_FDS, ask(56, 0));
    assert.equal(full.payload.length, 56);
    const place = { offset: DMA_NOTIFY, size: 4, fd_index: 0, type: 0, flags: 0, padding: 0, datamatch: 0 };
    assert.deepEqual(
      vfio_user_sub_region_ioeventfd.read(new DataView(Uint8Array.from(full.payload).buffer), 16),
      place,
    );
    assert.equal(full.fds.length, 1);
    full.fds[0].close();
  }
  for (const index of [1, 2, 5, 6, 7]) {
    const none = client.call(IO_FDS, ask(56, index));
    assert.deepEqual([none.payload.length, none.payload.readUInt32LE(12), none.fds.length], [16, 0, 0]);
  }
  assert.equal(client.outcome(IO_FDS, ask(15, 0)), 'EINVAL');
  assert.equal(client.outcome(IO_FDS, ask(16, 8)), 'EINVAL');
  const flags = ask(56, 0);
  flags.writeUInt32LE(1, 4);
  assert.equal(client.outcome(IO_FDS, flags), 'EINVAL', 'flags must be zero');
  client.close();
  await server.assertNothingLeft();
});

/** The borrower with three descriptors in its ring, each of which copies a page to the next. */
class Ring {
  readonly client: VfioUserClient;
  private readonly memfd = createMemfd('test', 16 * 4096);
  readonly memory = Mapping.map({ fd: this.memfd.fd, offset: 0, sizeBytes: 16 * 4096, writable: true, what: 'test' });
  private readonly event = createEventfd();

  constructor() {
    const client = new VfioUserClient(server.path('borrower'));
    this.client = client;
    client.dmaMap(0x100000, 16 * 4096, 3, this.memfd.fd);
    client.setIrqs(0x24, 2, 0, 1, undefined, [this.event.fd]);
    client.writeRegion(7, 4, Buffer.from([6, 0]));
    for (let i = 0; i < 3; i++) {
      const descriptor = Buffer.alloc(32);
      descriptor.writeBigUInt64LE(BigInt(0x100000 + 4096 * i), 0);
      descriptor.writeBigUInt64LE(BigInt(0x100000 + 4096 * (i + 1)), 8);
      descriptor.writeUInt32LE(4096, 16);
      client.writeRegion(0, DMA_RING + 32 * i, descriptor);
    }
    client.writeRegion(0, DMA_CONTROL, Buffer.from([3, 0, 0, 0]));
    this.memory.write(0, Buffer.alloc(4096, 0x5a));
  }

  /** How many copies are done, when nothing more is under way. */
  async completed(wanted: number): Promise<number> {
    const word = Buffer.alloc(4);
    for (let i = 0; i < 100; i++) {
      this.client.readRegion(0, DMA_COMPLETED, word);
      if (word.readUInt32LE() === wanted) break;
      await sleep(2);
    }
    return word.readUInt32LE();
  }

  close(): void {
    this.client.close();
    this.memory.close();
    this.memfd.close();
    this.event.close();
  }
}

test('posted writes of the client ring by the eventfd, and the device works', async () => {
  const ring = new Ring();
  const places = ring.client.useIoFds(0);
  assert.equal(places.length, 1);
  const notify = () => ring.client.writeRegion(0, DMA_NOTIFY, Buffer.alloc(4), true);
  notify();
  assert.equal(await ring.completed(1), 1);
  notify();
  notify();
  assert.equal(await ring.completed(3), 3, 'signals add up');
  const back = Buffer.alloc(4096);
  ring.memory.read(3 * 4096, back);
  assert.deepEqual(back, Buffer.alloc(4096, 0x5a));
  ring.close();
  await server.assertNothingLeft();
});

test('the same write by a message does the same', async () => {
  const ring = new Ring();
  ring.client.writeRegion(0, DMA_NOTIFY, Buffer.from([9, 9, 9, 9]));
  assert.equal(await ring.completed(1), 1);
  ring.client.writeRegion(0, DMA_NOTIFY, Buffer.alloc(4), true);
  assert.equal(await ring.completed(2), 2, 'posted, and without an eventfd');
  ring.close();
  await server.assertNothingLeft();
});

test('while memory is off the doorbell is lost, as the write would be; afterwards it rings again', async () => {
  const ring = new Ring();
  ring.client.useIoFds(0);
  const notify = () => ring.client.writeRegion(0, DMA_NOTIFY, Buffer.alloc(4), true);
  ring.client.writeRegion(7, 4, Buffer.from([4, 0]));
  notify();
  await sleep(20);
  ring.client.writeRegion(7, 4, Buffer.from([6, 0]));
  assert.equal(await ring.completed(0), 0);
  notify();
  assert.equal(await ring.completed(1), 1);
  ring.close();
  await server.assertNothingLeft();
});

test('a client that fills the counter up, or keeps the eventfd after it left, disturbs nobody', async () => {
  const client = RawClient.ready(server.path('borrower'));
  const [fd] = client.call(IO_FDS, ask(56, 0)).fds;
  const most = Buffer.alloc(8);
  most.writeBigUInt64LE((1n << 64n) - 2n);
  writeSync(fd.fd, most);
  const bystander = new VfioUserClient(server.path('bystander'));
  bystander.readRegion(0, 0, Buffer.alloc(4));
  bystander.close();
  client.close();
  // Nobody reads it any more: the client's own file takes what is written, and no device hears of it.
  await sleep(20);
  const one = Buffer.alloc(8);
  one.writeBigUInt64LE(1n);
  writeSync(fd.fd, one);
  fd.close();
  await server.assertNothingLeft();
});

test('client: places outside of the region, or without a descriptor, are EPROTO; ioregionfds are not written', async () => {
  const FULL = { max_msg_fds: 16, write_multiple: true };
  const regionInfo = Buffer.alloc(32);
  regionInfo.writeUInt32LE(32, 0);
  regionInfo.writeUInt32LE(3, 4);
  regionInfo.writeBigUInt64LE(4096n, 16);
  const reply = (place: Parameters<typeof vfio_user_sub_region_ioeventfd.encode>[0], fds = 1) => {
    const head = vfio_user_region_io_fds.encode({ argsz: 56, index: 0, count: 1 });
    return { payload: Buffer.concat([head, vfio_user_sub_region_ioeventfd.encode(place)]).toString('hex'), fds };
  };
  const info = { payload: regionInfo.toString('hex') };
  for (const bad of [
    reply({ offset: 4094, size: 4 }),
    reply({ offset: 0, size: 4, fd_index: 1 }),
    reply({ offset: 0, size: 4 }, 0),
    { payload: vfio_user_region_io_fds.encode({ argsz: 56, count: 2 }).toString('hex') },
  ]) {
    await withScript([version(FULL), info, bad, bad], (path) => {
      const client = new VfioUserClient(path);
      assert.throws(() => client.useIoFds(0), /EPROTO/);
      client.close();
    });
  }
  for (const place of [
    { offset: 8, size: 4, type: 1 },
    { offset: 8, size: 8 },
    { offset: 8, size: 4, flags: KVM_IOEVENTFD_FLAG_DATAMATCH, datamatch: 2 },
  ]) {
    const seen = await withScript([version(FULL), info, reply(place), reply(place)], (path) => {
      const client = new VfioUserClient(path);
      client.useIoFds(0);
      client.writeRegion(0, 8, Buffer.from([1, 0, 0, 0]), true);
      client.close();
    });
    assert.equal(seen.length, 5, 'a message for what the eventfd does not stand for');
  }
});
