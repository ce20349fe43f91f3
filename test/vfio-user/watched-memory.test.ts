/** Memory that its client locks, leases, watches for faults, or changes while the device uses it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { check, Pinned, sys } from '../../src/linux/ffi.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { withServer } from './served.ts';

const PAGE = 4096;
const BOTH = 3;
const ORDINARY = 0x4000_0000;
/** asm-generic/fcntl.h, linux/fcntl.h. */
const F_OFD_SETLK = 37;
const F_SETLEASE = 1024;
const F_WRLCK = 1;
/** linux/userfaultfd.h: the requests on /dev/userfaultfd and on what it gives. */
const USERFAULTFD_IOC_NEW = 0xaa00;
const UFFDIO_API = 0xc018_aa3f;
const UFFDIO_REGISTER = 0xc020_aa00;
const UFFD_API = 0xaan;
const UFFDIO_REGISTER_MODE_MISSING = 1n;

const server = await withServer();

/** A client of the DMA engine, with a page of its own besides the memory of the test. */
function withEngine(body: (client: VfioUserClient, copy: (from: number, to: number) => string, page: Mapping) => void) {
  const client = new VfioUserClient(server.path('borrower'), { timeoutMs: 5000 });
  const memfd = createMemfd('test', PAGE);
  const page = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: PAGE, writable: true, what: 'test' });
  client.dmaMap(ORDINARY, PAGE, BOTH, memfd.fd);
  memfd.close();
  const driver = new IoatDriver(client);
  try {
    body(client, (from, to) => driver.copy(from, to, 1000), page);
  } finally {
    page.close();
    driver.close();
    client.close();
  }
}

function assertReaches(copy: (from: number, to: number) => string, page: Mapping, iova: number, seed: number): void {
  const bytes = Buffer.alloc(1000, seed);
  page.write(0, bytes);
  assert.equal(copy(ORDINARY, iova), 'ok');
  page.write(2000, Buffer.alloc(1000));
  assert.equal(copy(iova, ORDINARY + 2000), 'ok');
  const back = Buffer.alloc(1000);
  page.read(2000, back);
  assert.deepEqual(back, bytes);
}

function withFile(body: (file: OwnedFd) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'barter-watched-'));
  const file = new OwnedFd(openSync(join(folder, 'ram'), 'w+'), 'file');
  ftruncateSync(file.fd, 16 * PAGE);
  try {
    body(file);
  } finally {
    file.close();
    rmSync(folder, { recursive: true });
  }
}

test('a file that its client locks, leases and locks in memory is reached, and given back', async () => {
  withFile((file) => {
    const lock = new Pinned(32);
    lock.view.setInt16(0, F_WRLCK, true);
    check(sys.fcntl(file.fd, F_OFD_SETLK, lock.address), () => 'F_OFD_SETLK');
    // Some file systems have no leases; then the lock alone is tested.
    sys.fcntl(file.fd, F_SETLEASE, F_WRLCK);
    const MAP_SHARED_LOCKED = 0x2001;
    const own = check(sys.mmap(0, 16 * PAGE, 3, MAP_SHARED_LOCKED, file.fd, 0), () => 'mmap');
    withEngine((client, copy, page) => {
      client.dmaMap(0, 16 * PAGE, BOTH, file.fd);
      assertReaches(copy, page, 5 * PAGE + 7, 0x21);
      assert.equal(client.dmaUnmap(0, 16 * PAGE), 16 * PAGE);
      client.dmaMap(0, 16 * PAGE, BOTH, file.fd);
      assertReaches(copy, page, 0, 0x22);
    });
    sys.munmap(own, 16 * PAGE);
  });
  await server.assertNothingLeft();
});

/** A descriptor that watches `memfd` where the client maps it. Nobody reads it, so the client's faults never end. */
function watch(address: number, length: number): OwnedFd | string {
  let device: OwnedFd;
  try {
    device = new OwnedFd(openSync('/dev/userfaultfd', 'r+'), 'userfaultfd');
  } catch (error) {
    return (error as Error).message;
  }
  const fd = new OwnedFd(
    check(sys.ioctl(device.fd, USERFAULTFD_IOC_NEW, 0), () => 'USERFAULTFD_IOC_NEW'),
    'faults',
  );
  device.close();
  const argument = new Pinned(32);
  argument.view.setBigUint64(0, UFFD_API, true);
  check(sys.ioctl(fd.fd, UFFDIO_API, argument.address), () => 'UFFDIO_API');
  const fields = [BigInt(address), BigInt(length), UFFDIO_REGISTER_MODE_MISSING, 0n];
  for (const [i, field] of fields.entries()) argument.view.setBigUint64(8 * i, field, true);
  check(sys.ioctl(fd.fd, UFFDIO_REGISTER, argument.address), () => 'UFFDIO_REGISTER');
  return fd;
}

test('memory whose faults its client keeps waiting is reached: its mappings are its own', async (t: TestContext) => {
  const memfd = createMemfd('test watched', 16 * PAGE);
  const own = check(sys.mmap(0, 16 * PAGE, 3, 1, memfd.fd, 0), () => 'mmap');
  const faults = watch(own, 16 * PAGE);
  if (typeof faults === 'string') t.diagnostic(`NOT TESTED: ${faults}`);
  withEngine((client, copy, page) => {
    client.dmaMap(0, 16 * PAGE, BOTH, memfd.fd);
    for (const at of [0, 3 * PAGE, 15 * PAGE]) assertReaches(copy, page, at, 0x31 + at / PAGE);
  });
  if (typeof faults !== 'string') faults.close();
  sys.munmap(own, 16 * PAGE);
  memfd.close();
  await server.assertNothingLeft();
});

/** Once the second flag is set, cuts the file off and lets it grow until the first one is. */
const CUTTER = `
const { workerData: { fd, stop, sizeBytes } } = require('node:worker_threads');
const { ftruncateSync } = require('node:fs');
Atomics.wait(stop, 1, 0);
for (let i = 0; Atomics.load(stop, 0) === 0; i++) {
  ftruncateSync(fd, i % 2 === 0 ? 0 : sizeBytes);
}
ftruncateSync(fd, sizeBytes);
`;

test('a file that is cut off and grows during copies fails some of them, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-watched-'));
  const file = new OwnedFd(openSync(join(folder, 'ram'), 'w+'), 'file');
  ftruncateSync(file.fd, 16 * PAGE);
  const stop = new Int32Array(new SharedArrayBuffer(8));
  const bystander = new VfioUserClient(server.path('bystander'), { timeoutMs: 5000 });
  const told: Record<string, number> = {};
  const cutter = new Worker(CUTTER, { eval: true, workerData: { fd: file.fd, stop, sizeBytes: 16 * PAGE } });
  const ended = once(cutter, 'exit');
  withEngine((client, copy) => {
    client.dmaMap(0, 16 * PAGE, BOTH, file.fd);
    Atomics.store(stop, 1, 1);
    Atomics.notify(stop, 1);
    const ids = Buffer.alloc(4);
    const sawBoth = () => told.ok > 0 && Object.keys(told).length > 1;
    for (let i = 0; i < 400 || (i < 100_000 && !sawBoth()); i++) {
      for (const result of [copy(ORDINARY, (i % 16) * PAGE), copy((i % 16) * PAGE, ORDINARY + 2000)]) {
        told[result] = (told[result] ?? 0) + 1;
      }
      bystander.readRegion(7, 0, ids);
    }
  });
  Atomics.store(stop, 0, 1);
  await ended;
  bystander.close();
  for (const result of Object.keys(told)) assert.match(result, /^(ok|read data error|write data error)$/);
  assert.ok(told.ok > 0 && Object.keys(told).length > 1, JSON.stringify(told));
  file.close();
  rmSync(folder, { recursive: true });
  await server.assertNothingLeft();
});
