/** GET_REGION_IO_FDS: a doorbell write by an eventfd must reach the device as a message would. */
import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCMD_SUSPEND,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_OFFSET,
  IOAT_DESC_CTL_NULL,
  ioat_dma_descriptor,
} from '../../src/abi/ioat.ts';
import { viewOf } from '../../src/abi/layout.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../src/abi/vfio-user.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { RawClient } from './raw-client.ts';
import { version, withScript } from './scripted-server.ts';
import { withServer } from './served.ts';

const server = await withServer();
const IO_FDS = { command: VFIO_USER_DEVICE_GET_REGION_IO_FDS };
const CHANCMD = IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANCMD_OFFSET;
const ask = (argsz: number, index: number) => vfio_user_region_io_fds.encode({ argsz, index });

test('the reply: size first, then a place with its descriptor; nothing where there is no doorbell', async () => {
  const client = RawClient.ready(server.path('borrower'));
  const short = client.call(IO_FDS, ask(16, 0));
  assert.deepEqual([short.payload.length, short.payload.readUInt32LE(0), short.fds.length], [16, 56, 0]);
  assert.equal(short.payload.readUInt32LE(12), 1, 'count');
  for (let i = 0; i < 100; i++) {
    const full = client.call(IO_FDS, ask(56, 0));
    assert.equal(full.payload.length, 56);
    const place = { offset: CHANCMD, size: 1, fd_index: 0, type: 0, flags: 1, padding: 0, datamatch: 0x10 };
    assert.deepEqual(vfio_user_sub_region_ioeventfd.read(viewOf(full.payload), 16), place);
    assert.equal(full.fds.length, 1);
    full.fds[0].close();
  }
  const none = client.call(IO_FDS, ask(56, 7));
  assert.deepEqual([none.payload.length, none.payload.readUInt32LE(12), none.fds.length], [16, 0, 0]);
  for (const absent of [1, 2, 5, 6]) assert.equal(client.outcome(IO_FDS, ask(56, absent)), 'EINVAL');
  assert.equal(client.outcome(IO_FDS, ask(15, 0)), 'EINVAL');
  assert.equal(client.outcome(IO_FDS, ask(16, 8)), 'EINVAL');
  const flags = ask(56, 0);
  flags.writeUInt32LE(1, 4);
  assert.equal(client.outcome(IO_FDS, flags), 'EINVAL', 'flags must be zero');
  client.close();
  await server.assertNothingLeft();
});

const MEMORY = 0x10_0000;
const CHAIN = 0x11_0000;
const BYTES = 64;

/** The borrower's engine, suspended with waiting descriptors. Each copies a few bytes to the place behind them. */
class Suspended {
  readonly client = new VfioUserClient(server.path('borrower'));

  constructor() {
    const { client } = this;
    const memfd = createMemfd('test', 0x2_0000);
    for (let i = 0; i < 4; i++) {
      const descriptor = ioat_dma_descriptor.encode({
        size: BYTES,
        ctl: i === 0 ? IOAT_DESC_CTL_NULL : 0,
        src_addr: MEMORY + BYTES * (i - 1),
        dst_addr: MEMORY + BYTES * i,
        next: CHAIN + 64 * (i + 1),
      });
      writeSync(memfd.fd, descriptor, 0, 64, CHAIN - MEMORY + 64 * i);
    }
    writeSync(memfd.fd, Buffer.alloc(BYTES, 0x5a), 0, BYTES, 0);
    client.dmaMap(MEMORY, 0x2_0000, 3, memfd.fd);
    memfd.close();
    client.writeRegion(7, 4, Buffer.from([6, 0]));
    const chain = Buffer.alloc(8);
    chain.writeUInt32LE(CHAIN);
    this.write(IOAT_CHAINADDR_OFFSET, chain);
    this.count(1);
    // Only a channel that has worked can be suspended.
    this.write(IOAT_CHANCMD_OFFSET, Buffer.from([IOAT_CHANCMD_SUSPEND]));
  }

  write(register: number, bytes: Uint8Array, posted = false): void {
    this.client.writeRegion(0, IOAT_CHANNEL_MMIO_SIZE + register, bytes, posted);
  }

  /** Tells the channel how many descriptors to process. */
  count(descriptors: number): void {
    this.write(IOAT_CHAN_DMACOUNT_OFFSET, Buffer.from([descriptors, 0]));
  }

  resume(posted: boolean): void {
    this.write(IOAT_CHANCMD_OFFSET, Buffer.from([IOAT_CHANCMD_RESUME]), posted);
  }

  /** Returns the number of the last finished descriptor, once it is `wanted` or nothing changes any more. */
  async last(wanted: number): Promise<number> {
    const status = Buffer.alloc(8);
    for (let i = 0; i < 100; i++) {
      this.client.readRegion(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANSTS_OFFSET, status);
      if (Math.floor((status.readUInt32LE() - CHAIN) / 64) === wanted) break;
      await sleep(2);
    }
    return Math.floor((status.readUInt32LE() - CHAIN) / 64);
  }
}

test('a posted write of the value rings by the eventfd, and the engine goes on', async () => {
  const engine = new Suspended();
  engine.count(4);
  assert.equal(await engine.last(0), 0, 'suspended');
  assert.equal(engine.client.useIoFds(0).length, 1);
  engine.resume(true);
  assert.equal(await engine.last(3), 3);
  engine.client.close();
  await server.assertNothingLeft();
});

test('the same write by a message does the same', async () => {
  for (const posted of [false, true]) {
    const engine = new Suspended();
    engine.count(4);
    engine.resume(posted);
    assert.equal(await engine.last(3), 3);
    engine.client.close();
    await server.assertNothingLeft();
  }
});

test('while memory is off the doorbell is lost, as the write would be; afterwards it rings again', async () => {
  const engine = new Suspended();
  engine.count(4);
  engine.client.useIoFds(0);
  engine.client.writeRegion(7, 4, Buffer.from([4, 0]));
  engine.resume(true);
  await sleep(20);
  engine.client.writeRegion(7, 4, Buffer.from([6, 0]));
  assert.equal(await engine.last(0), 0);
  engine.resume(true);
  assert.equal(await engine.last(3), 3);
  engine.client.close();
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
  // The server no longer reads it: the write goes into the client's own file, and reaches no device.
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
    reply({ offset: 0, size: 4 }),
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
    const event = createEventfd();
    const scripted = { ...reply(place, 0), fdNumbers: [event.fd] };
    const seen = await withScript([version(FULL), info, scripted, scripted], (path) => {
      const client = new VfioUserClient(path);
      client.useIoFds(0);
      client.writeRegion(0, 8, Buffer.from([1, 0, 0, 0]), true);
      client.close();
    });
    event.close();
    assert.equal(seen.length, 5, 'a message for what the eventfd does not stand for');
  }
});
