/** A device moves from one server to another. Also DMA logging, and the requests that both refuse. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { after, test } from 'node:test';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_OFFSET,
  ioat_dma_descriptor,
} from '../../src/abi/ioat.ts';
import {
  VFIO_DEVICE_STATE_ERROR as ERROR,
  VFIO_DEVICE_STATE_PRE_COPY as PRE_COPY,
  VFIO_DEVICE_STATE_RESUMING as RESUMING,
  VFIO_DEVICE_STATE_RUNNING as RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P as RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP as STOP,
  VFIO_DEVICE_STATE_STOP_COPY as STOP_COPY,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
} from '../../src/abi/vfio-feature.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { MAX_SECTION_BYTES } from '../../src/vfio/migration-stream.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { dirtyPages, startDmaLogging, stopDmaLogging } from '../../src/vfio-user/client/dma-logging.ts';
import {
  migrationBytes,
  migrationFlags,
  migrationState,
  setMigrationState,
  writeMigrationData,
} from '../../src/vfio-user/client/migration.ts';
import { connectWhenFree, TestServer, withServer } from './served.ts';

const here = await withServer();
const there = new TestServer();
await there.start();
after(() => there.stop());
const CONFIG = 7;
const PAGE = 4096;

/** A client on each side. */
async function onBothSides(device: string, body: (from: VfioUserClient, to: VfioUserClient) => void): Promise<void> {
  const from = await connectWhenFree(here.path(device));
  const to = await connectWhenFree(there.path(device));
  try {
    body(from, to);
  } finally {
    from.close();
    to.close();
  }
}

function mappingOf(fd: number, sizeBytes: number): Mapping {
  return Mapping.map({ fd, offset: 0, sizeBytes, writable: true, what: 'test' });
}

function bytesOf(client: VfioUserClient, region: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  client.readRegion(region, 0, bytes);
  return bytes;
}

function stream(client: VfioUserClient): Buffer {
  return Buffer.concat([...client.migrationData()]);
}

/** The bytes in pieces of arbitrary sizes. */
function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const piece = bytes.subarray(at, at + randomInt(1, 200_000));
    yield piece;
    at += piece.length;
  }
}

test('STOP_COPY: memory and config space of a device move to another server, in pieces of any size', () =>
  onBothSides('lender', (from, to) => {
    assert.equal(from.run(migrationFlags()), 7, 'STOP_COPY, P2P, PRE_COPY');
    const memory = randomBytes(1 << 20);
    memory.fill(0, 0x30000, 0x90000);
    from.writeRegion(0, 0, memory);
    from.writeRegion(2, 0x3000, Buffer.from('behind the table'));
    from.writeRegion(CONFIG, 4, Buffer.from([6, 4]));
    from.writeRegion(CONFIG, 0x10, Buffer.from([0, 0, 0xe0, 0xfe]));
    to.writeRegion(0, 0x40000, Buffer.from('what was there before is gone'));
    from.run(setMigrationState(STOP_COPY));
    assert.equal(from.run(migrationState()), STOP_COPY);
    const most = from.run(migrationBytes());
    const data = stream(from);
    assert.ok(data.length > 600_000 && data.length <= most, `${data.length} of at most ${most} bytes`);
    assert.equal(stream(from).length, 0, 'the end stays the end');
    from.run(setMigrationState(STOP));
    to.run(setMigrationState(RESUMING));
    for (const piece of pieces(data)) to.run(writeMigrationData(to, piece));
    to.run(setMigrationState(RUNNING));
    assert.equal(to.run(migrationState()), RUNNING);
    assert.deepEqual(bytesOf(to, 0, 1 << 20), memory);
    assert.deepEqual(bytesOf(to, 2, 0x4000), bytesOf(from, 2, 0x4000));
    assert.deepEqual(bytesOf(to, CONFIG, 4096), bytesOf(from, CONFIG, 4096));
    assert.equal(bytesOf(to, CONFIG, 6).readUInt16LE(4), 0x0406, 'memory on, INTx disabled');
  }));

test('PRE_COPY: what changes after it was sent is sent again, also what a mapping wrote', () =>
  onBothSides('lender', (from, to) => {
    const memory = randomBytes(1 << 20);
    from.writeRegion(0, 0, memory);
    from.run(setMigrationState(PRE_COPY));
    const first = stream(from);
    assert.ok(first.length > 1 << 20);
    assert.equal(stream(from).length, 0, 'nothing more to tell yet');
    from.writeRegion(0, 0x20001, Buffer.from('by a message'));
    const mapping = from.mapRegion(0, 0, 1 << 20);
    mapping.bytes.set(Buffer.from('by a mapping'), 0x80000);
    mapping.bytes.fill(0, 0xa0000, 0xb0000);
    mapping.close();
    from.run(setMigrationState(STOP_COPY));
    const second = stream(from);
    assert.ok(second.length < 5 * 65536, `${second.length} bytes for three chunks`);
    to.run(setMigrationState(RESUMING));
    to.run(writeMigrationData(to, first));
    to.run(writeMigrationData(to, second));
    to.run(setMigrationState(STOP));
    assert.deepEqual(bytesOf(to, 0, 1 << 20), bytesOf(from, 0, 1 << 20));
    from.run(setMigrationState(RUNNING));
    assert.throws(() => stream(from), /EINVAL/, 'no stream while it runs');
  }));

/** Enough copies to take a while: each copies a MiB, in memory that both servers reach, into its upper half. */
const COPIES = 32;
const MIB = 1 << 20;
const COPIED = COPIES * MIB;
/** The address of the engine's descriptors. */
const CHAIN = 2 * COPIED;

function writeChain(file: Mapping): void {
  for (let i = 0; i < COPIES; i++) {
    const next = CHAIN + 64 * (i + 1);
    const fields = { size: MIB, src_addr: MIB * i, dst_addr: COPIED + MIB * i, next };
    file.write(CHAIN + 64 * i, ioat_dma_descriptor.encode(fields));
  }
}

test('the engine moves in the middle of its work, and goes on where it was', () =>
  onBothSides('borrower', (from, to) => {
    const memfd = createMemfd('test', CHAIN + PAGE);
    for (const client of [from, to]) client.dmaMap(0, CHAIN + PAGE, 3, memfd.fd);
    const file = mappingOf(memfd.fd, CHAIN + PAGE);
    const source = randomBytes(COPIED);
    file.write(0, source);
    writeChain(file);
    const chain = Buffer.alloc(8);
    chain.writeUInt32LE(CHAIN);
    from.writeRegion(CONFIG, 4, Buffer.from([6, 0]));
    from.writeRegion(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAINADDR_OFFSET, chain);
    // Posted, so that the stop arrives before much is copied.
    from.writeRegion(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHAN_DMACOUNT_OFFSET, Buffer.from([COPIES, 0]), true);
    from.run(setMigrationState(STOP_COPY));
    const status = Buffer.alloc(8);
    const look = (client: VfioUserClient): number => {
      client.readRegion(0, IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANSTS_OFFSET, status);
      return status.readUInt32LE();
    };
    assert.equal(look(from) & 7, IOAT_CHANSTS_ACTIVE, 'software sees a channel at work');
    const done = look(from) === 0 ? 0 : 1 + (look(from) - CHAIN) / 64;
    assert.ok(done < COPIES, 'the work is not done yet');
    const before = Buffer.from(file.bytes.subarray(COPIED, CHAIN));
    assert.deepEqual(before.subarray(0, done * MIB), source.subarray(0, done * MIB));
    assert.deepEqual(
      before.subarray(done * MIB),
      Buffer.alloc((COPIES - done) * MIB),
      'it rests between two descriptors',
    );
    const data = stream(from);
    to.run(setMigrationState(RESUMING));
    to.run(writeMigrationData(to, data));
    for (let i = 0; i < 20; i++) look(from);
    assert.deepEqual(Buffer.from(file.bytes.subarray(COPIED, CHAIN)), before, 'at rest nothing is written');
    to.run(setMigrationState(RUNNING));
    while ((look(to) & 7) === IOAT_CHANSTS_ACTIVE) {}
    assert.equal(look(to), CHAIN + 64 * (COPIES - 1) + IOAT_CHANSTS_DONE);
    assert.deepEqual(Buffer.from(file.bytes.subarray(COPIED, CHAIN)), source);
    file.close();
    memfd.close();
  }));

test('P2P: the device starts no DMA, and goes on when it runs again', () =>
  onBothSides('borrower', (client) => {
    const memfd = createMemfd('test', 2 * PAGE);
    client.dmaMap(0, 2 * PAGE, 3, memfd.fd);
    const file = mappingOf(memfd.fd, 2 * PAGE);
    const driver = new IoatDriver(client);
    file.bytes.fill(0x77, 0, PAGE);
    client.run(setMigrationState(RUNNING_P2P));
    driver.submit(0, PAGE, PAGE);
    for (let i = 0; i < 20; i++) client.info();
    assert.equal(file.bytes[PAGE], 0);
    client.run(setMigrationState(RUNNING));
    assert.equal(driver.wait(2000), 'ok');
    assert.equal(file.bytes[PAGE], 0x77);
    // A reset brings the device back from any state.
    client.run(setMigrationState(STOP));
    client.reset();
    assert.equal(client.run(migrationState()), RUNNING);
    driver.close();
    file.close();
    memfd.close();
  }));

test('what is refused: states without a way, streams of other devices, cut or changed ones', () =>
  onBothSides('lender', (from, to) => {
    from.writeRegion(0, 5, Buffer.from('something'));
    for (const state of [ERROR, 8, 0xffffffff]) assert.throws(() => from.run(setMigrationState(state)), /EINVAL/);
    assert.throws(() => from.run(writeMigrationData(from, Buffer.alloc(8))), /EINVAL/);
    from.run(setMigrationState(STOP_COPY));
    assert.throws(() => from.run(setMigrationState(PRE_COPY)), /EINVAL/);
    assert.equal(from.run(migrationState()), STOP_COPY, 'and nothing has changed');
    const data = stream(from);
    const resume = (bytes: Buffer): string => {
      to.run(setMigrationState(RESUMING));
      try {
        to.run(writeMigrationData(to, bytes));
      } catch (error) {
        assert.match(String(error), /EINVAL/);
      }
      let outcome = 'ok';
      try {
        to.run(setMigrationState(STOP));
      } catch (error) {
        outcome = String(error).slice(7, 13);
        assert.equal(to.run(migrationState()), ERROR);
        assert.throws(() => to.run(setMigrationState(RUNNING)), /EINVAL/, 'a reset alone leads out of ERROR');
      }
      to.reset();
      assert.equal(to.run(migrationState()), RUNNING);
      return outcome;
    };
    assert.equal(resume(data.subarray(0, -1)), 'EINVAL', 'cut');
    assert.equal(resume(Buffer.alloc(0)), 'EINVAL', 'nothing');
    assert.equal(resume(Buffer.concat([data, data.subarray(0, 1)])), 'EINVAL', 'a byte too many');
    for (let i = 0; i < 300; i++) {
      const changed = Buffer.from(data);
      changed[i < 200 ? i : randomInt(data.length)] ^= 1 << randomInt(8);
      assert.equal(resume(changed), 'EINVAL', 'a bit that is not as it was');
    }
    assert.equal(resume(data), 'ok');
    assert.deepEqual(bytesOf(to, 0, 20), bytesOf(from, 0, 20));
    const other = new VfioUserClient(there.path('bystander'));
    other.run(setMigrationState(RESUMING));
    assert.throws(() => other.run(writeMigrationData(other, data)), /EINVAL/, 'of another kind of device');
    other.close();
  }));

test('a section that is too large is refused by its head, before any of it is kept', () =>
  onBothSides('lender', (from, to) => {
    from.run(setMigrationState(STOP_COPY));
    const whole = stream(from);
    const first = whole.subarray(0, 8 + whole.readUInt32LE(4));
    const head = Buffer.from(whole.subarray(first.length, first.length + 8));
    const begin = (bytes: number) => {
      head.writeUInt32LE(bytes, 4);
      to.run(setMigrationState(RESUMING));
      to.run(writeMigrationData(to, Buffer.concat([first, head])));
    };
    begin(MAX_SECTION_BYTES);
    to.reset();
    assert.throws(() => begin(MAX_SECTION_BYTES + 1), /EINVAL/);
    to.reset();
  }));

test('probes tell what there is', () =>
  onBothSides('lender', (client) => {
    const probe = (flags: number) => client.feature(Buffer.from(new Uint32Array([8, flags | (1 << 18)]).buffer));
    for (const feature of [1, 2, 6, 7, 8, 9]) probe(feature);
    probe(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | (3 << 16));
    for (const [feature, method] of [
      [1, 1 << 17],
      [6, 1 << 16],
      [7, 1 << 16],
      [8, 1 << 17],
      [9, 1 << 17],
    ]) {
      assert.throws(() => probe(feature | method), /EINVAL/);
    }
    assert.throws(() => probe(12), /ENOTTY/);
  }));

test('DMA logging: exactly the pages that the device wrote, once; in ranges, or everywhere', () =>
  onBothSides('borrower', (client) => {
    const memfd = createMemfd('test', 256 * PAGE);
    client.dmaMap(0x100000, 256 * PAGE, 3, memfd.fd);
    const driver = new IoatDriver(client);
    const write = (page: number, offset: number, length: number) =>
      assert.equal(driver.copy(0x100000, 0x100000 + page * PAGE + offset, length), 'ok');
    const dirty = (from = 0, pages = 256, size = PAGE) =>
      client.run(dirtyPages(0x100000 + from * PAGE, pages * PAGE, size)).map((page) => page + (from * PAGE) / size);
    assert.throws(() => dirty(), /EINVAL/, 'not logged');
    assert.throws(() => client.run(stopDmaLogging()), /EINVAL/);
    assert.equal(client.run(startDmaLogging(PAGE)), PAGE);
    assert.throws(() => client.run(startDmaLogging(PAGE)), /EINVAL/, 'once is enough');
    assert.deepEqual(dirty(), []);
    write(3, 0, 1);
    write(10, PAGE - 1, 2);
    write(100, 5, 3 * PAGE);
    assert.deepEqual(dirty(0, 64), [3, 10, 11]);
    assert.deepEqual(dirty(), [100, 101, 102, 103], 'the others were told before');
    assert.deepEqual(dirty(), []);
    write(8, 0, 8);
    assert.deepEqual(dirty(0, 256, 8 * PAGE), [1], 'in larger pages');
    client.writeRegion(0, 0x2000, Buffer.alloc(4));
    assert.deepEqual(dirty(), [], 'an access by the client is not DMA');
    client.run(stopDmaLogging());
    client.run(
      startDmaLogging(PAGE, [
        { iova: 0x100000 + 20 * PAGE, length: 2 * PAGE },
        { iova: 0x100000, length: PAGE },
      ]),
    );
    write(19, 0, 4 * PAGE);
    write(0, 100, 1);
    assert.deepEqual(dirty(), [0, 20, 21]);
    client.run(stopDmaLogging());
    const start = (size: number, ranges: { iova: number; length: number }[]) => () =>
      client.run(startDmaLogging(size, ranges));
    assert.throws(start(0, []), /EINVAL/);
    assert.throws(start(5000, []), /EINVAL/);
    assert.throws(start(PAGE, [{ iova: 0, length: 100 }]), /EINVAL/);
    assert.throws(start(PAGE, [{ iova: 0, length: 0 }]), /EINVAL/);
    assert.throws(
      start(PAGE, [
        { iova: 0, length: 8192 },
        { iova: 4096, length: 4096 },
      ]),
      /EINVAL/,
      'an overlap',
    );
    assert.throws(
      start(
        PAGE,
        Array.from({ length: 257 }, (_, i) => ({ iova: 8192 * i, length: 4096 })),
      ),
      /E2BIG/,
    );
    assert.equal(client.run(startDmaLogging(512)), PAGE, 'no page is smaller than the system has');
    assert.throws(() => client.run(dirtyPages(0, PAGE, 100)), /EINVAL/);
    assert.throws(() => client.run(dirtyPages(0, 2 ** 50, PAGE)), /EINVAL|E2BIG/);
    driver.close();
    memfd.close();
  }));

test('a client that leaves in the middle of a migration leaves a device that runs', async () => {
  const client = await connectWhenFree(here.path('borrower'));
  client.run(setMigrationState(STOP_COPY));
  [...client.migrationData()].slice(0, 1);
  client.close();
  await onBothSides('borrower', (next) => {
    assert.equal(next.run(migrationState()), RUNNING);
    const memfd = createMemfd('test', 2 * PAGE);
    next.dmaMap(0, 2 * PAGE, 3, memfd.fd);
    const driver = new IoatDriver(next);
    assert.equal(driver.copy(0, PAGE, PAGE), 'ok');
    driver.close();
    memfd.close();
  });
});
