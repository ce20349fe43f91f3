/**
 * Clients' memory in huge pages: memfds and hugetlbfs, at any offset and size, and the operations of a client on it.
 */
import assert from 'node:assert/strict';
import { ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE } from '../../src/abi/fcntl.ts';
import { MADV_REMOVE, MFD_ALLOW_SEALING } from '../../src/abi/mman.ts';
import { IoatDriver } from '../../src/drivers/ioat.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { check, sys } from '../../src/linux/ffi.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';
import { freeHugePages, HUGE, hugeMemfd, mounted, withHugePages } from '../linux/hugepages.ts';
import { withServer } from './served.ts';

const PAGE = 4096;
const BOTH = 3;
const ORDINARY = 0x4000_0000;
const server = await withServer();

function pattern(length: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff));
}

/** A client of the borrower with a page of ordinary memory at ORDINARY, besides the memory that the test maps. */
class Client {
  readonly client = new VfioUserClient(server.path('borrower'));
  readonly driver: IoatDriver;
  readonly page: Mapping;

  constructor() {
    const memfd = createMemfd('test', PAGE);
    this.page = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: PAGE, writable: true, what: 'test' });
    this.client.dmaMap(ORDINARY, PAGE, BOTH, memfd.fd);
    memfd.close();
    this.driver = new IoatDriver(this.client);
  }

  /** The device writes to `iova` and reads back. Returns whether the same bytes came back. */
  reaches(iova: number, seed: number): boolean {
    const bytes = pattern(1000, seed);
    this.page.write(0, bytes);
    if (this.driver.copy(ORDINARY, iova, 1000) !== 'ok') return false;
    this.page.write(2000, Buffer.alloc(1000));
    if (this.driver.copy(iova, ORDINARY + 2000, 1000) !== 'ok') return false;
    const back = Buffer.alloc(1000);
    this.page.read(2000, back);
    return back.equals(bytes);
  }

  /** Closes `files`, ends the session, and checks that the session leaves nothing. */
  async close(...files: OwnedFd[]): Promise<void> {
    for (const file of files) file.close();
    this.page.close();
    this.driver.close();
    this.client.close();
    await server.assertNothingLeft();
  }
}

function assertBystanderServed(): void {
  const client = new VfioUserClient(server.path('bystander'), { timeoutMs: 5000 });
  client.writeRegion(0, 128, Buffer.from([1, 2, 3, 4]));
  client.close();
}

/** Every kind of such memory that a VMM may have. */
const KINDS = {
  'a memfd that can be sealed': () => hugeMemfd(4),
  'a sealed memfd': () => {
    const memfd = hugeMemfd(4);
    check(sys.fcntl(memfd.fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), () => 'seal');
    return memfd;
  },
  'a memfd without seals': () => hugeMemfd(4, 0),
};

/** Offsets and sizes in pages of 4 KiB; a huge page has 512. */
const PARTS: readonly [page: number, pages: number][] = [
  [0, 2048],
  [512, 512],
  [1, 1],
  [511, 2],
  [600, 1000],
  [2047, 1],
];

async function maps(memfd: OwnedFd): Promise<void> {
  const client = new Client();
  for (let round = 0; round < 2; round++) {
    for (const [i, [page, pages]] of PARTS.entries()) {
      client.client.dmaMap(i * 2 ** 32, pages * PAGE, BOTH, memfd.fd, page * PAGE);
    }
    const file = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: 4 * HUGE, writable: true, what: 'test' });
    for (const [i, [page, pages]] of PARTS.entries()) {
      const end = (pages - 1) * PAGE + 3000;
      for (const at of [0, 77, end]) {
        assert.ok(client.reaches(i * 2 ** 32 + at, round * 50 + i), `${page}+${pages} at ${at}`);
        const bytes = Buffer.alloc(1000);
        file.read(page * PAGE + at, bytes);
        assert.deepEqual(bytes, pattern(1000, round * 50 + i), 'where the client has it');
      }
      assert.notEqual(client.driver.copy(ORDINARY, i * 2 ** 32 + pages * PAGE, 8), 'ok', 'no further');
    }
    file.close();
    if (round === 0) {
      for (const [i, [, pages]] of PARTS.entries()) {
        assert.equal(client.client.dmaUnmap(i * 2 ** 32, pages * PAGE), pages * PAGE);
      }
    }
  }
  await client.close(memfd);
  assertBystanderServed();
}

for (const [kind, make] of Object.entries(KINDS)) {
  test(`${kind} of huge pages: parts of any offset and size are reached, given back, and mapped again`, async (t) => {
    if (!withHugePages(t, 5)) return;
    await maps(make());
  });
}

test('a file of hugetlbfs: the device reads and writes it', async (t) => {
  if (!withHugePages(t, 5)) return;
  const folder = mounted(t, 'hugetlbfs');
  if (folder === null) return;
  const path = join(folder, 'ram');
  const file = new OwnedFd(openSync(path, 'w+'), 'file of hugetlbfs');
  ftruncateSync(file.fd, 4 * HUGE);
  await maps(file);
});

test('a hole in a sealed file whose pool is exhausted fails the transfer, and nothing else', async (t) => {
  if (!withHugePages(t, 4)) return;
  const memfd = hugeMemfd(2, MFD_ALLOW_SEALING, 'victim');
  const client = new Client();
  client.client.dmaMap(0, 2 * HUGE, BOTH, memfd.fd);
  assert.ok(client.reaches(0, 1) && client.reaches(HUGE, 2));
  const own = check(sys.mmap(0, 2 * HUGE, 3, 1, memfd.fd, 0), () => 'mmap');
  check(sys.madvise(own, HUGE, MADV_REMOVE), () => 'punch a hole');
  const hog = hugeMemfd(freeHugePages(), MFD_ALLOW_SEALING, 'hog');
  const hogBytes = freeHugePages() * HUGE;
  const all = check(sys.mmap(0, hogBytes, 3, 1 | 0x8000, hog.fd, 0), () => 'mmap of all that is left');
  assert.equal(freeHugePages(), 0, 'the pool is exhausted');
  assert.equal(client.driver.copy(ORDINARY, 0, 64), 'write data error');
  assert.equal(client.driver.copy(64, ORDINARY, 64), 'read data error');
  assert.ok(client.reaches(HUGE, 3), 'what is there is still reached');
  assertBystanderServed();
  sys.munmap(all, hogBytes);
  hog.close();
  assert.ok(client.reaches(0, 4), 'with a page to be had the hole is filled');
  sys.munmap(own, 2 * HUGE);
  await client.close(memfd);
});

test('a file without seals that its client cuts off, and lets grow, while it is mapped', async (t) => {
  if (!withHugePages(t, 4)) return;
  const memfd = hugeMemfd(3, 0);
  const client = new Client();
  client.client.dmaMap(0, 3 * HUGE, BOTH, memfd.fd);
  assert.ok(client.reaches(2 * HUGE + 5, 1));
  ftruncateSync(memfd.fd, HUGE);
  assert.notEqual(client.driver.copy(ORDINARY, 2 * HUGE + 5, 64), 'ok');
  assert.notEqual(client.driver.copy(2 * HUGE + 5, ORDINARY, 64), 'ok');
  assert.ok(client.reaches(5, 2));
  ftruncateSync(memfd.fd, 3 * HUGE);
  assert.ok(client.reaches(2 * HUGE + 5, 3));
  ftruncateSync(memfd.fd, 0);
  await client.close(memfd);
  assertBystanderServed();
});

test('a file that is sealed against writing, or open for reading, takes no writes of the device', async (t) => {
  if (!withHugePages(t, 2)) return;
  const sealed = hugeMemfd(1);
  check(sys.fcntl(sealed.fd, F_ADD_SEALS, F_SEAL_WRITE), () => 'seal');
  const written = hugeMemfd(1);
  const readOnly = new OwnedFd(openSync(`/proc/self/fd/${written.fd}`, 'r'), 'a descriptor for reading');
  const client = new Client();
  for (const [file, errno] of [
    [sealed, 'EPERM'],
    [readOnly, 'EACCES'],
  ] as const) {
    assert.throws(() => client.client.dmaMap(0, HUGE, BOTH, file.fd), { code: errno });
    client.client.dmaMap(0, HUGE, 1, file.fd);
    assert.equal(client.driver.copy(PAGE, ORDINARY, 64), 'ok');
    assert.equal(client.driver.copy(ORDINARY, PAGE, 64), 'write data error');
    assert.equal(client.client.dmaUnmap(0, HUGE), HUGE);
  }
  await client.close(sealed, readOnly, written);
});
