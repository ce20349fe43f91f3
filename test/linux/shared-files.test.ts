import assert from 'node:assert/strict';
import { fstatSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/abi/errno.ts';
import {
  F_ADD_SEALS,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  O_APPEND,
  O_RDWR,
} from '../../src/abi/fcntl.ts';
import { MADV_REMOVE, MAP_SHARED, MFD_ALLOW_SEALING, MFD_CLOEXEC, PROT_READ, PROT_WRITE } from '../../src/abi/mman.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { PAGE_SIZE } from '../../src/linux/mapping.ts';
import { addSeals, createMemfd, sealsOf } from '../../src/linux/memfd.ts';
import { GuardedMemory, MappedMemory } from '../../src/linux/placed-memory.ts';
import { MappingBudget, type MemoryPart, SharedFiles } from '../../src/linux/shared-files.ts';
import { mounted } from './hugepages.ts';
import { leavesNoFds } from './open-fds.ts';

const GIB = 2 ** 30;
const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

function newFiles(most = 100, mostOfAll = 1000): SharedFiles {
  return new SharedFiles(new MappingBudget(most, mostOfAll));
}

function unsealed(flags: number, bytes: number): OwnedFd {
  const fd = new OwnedFd(sys.memfd_create('guest-ram', flags | MFD_CLOEXEC), 'guest RAM');
  ftruncateSync(fd.fd, bytes);
  return fd;
}

function linesOf(what: string): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(what));
}

function write(parts: readonly MemoryPart[], offset: number, bytes: Uint8Array): void {
  parts[0].memory.write(parts[0].offset + offset, bytes);
}

function read(parts: readonly MemoryPart[], offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  parts[0].memory.read(parts[0].offset + offset, bytes);
  return bytes;
}

test('a memfd that cannot shrink is reached by load and store; one that can be sealed is sealed first', () =>
  leavesNoFds(() => {
    const files = newFiles();
    const sealed = createMemfd('sealed', PAGE_SIZE);
    const first = files.open(sealed, 0, PAGE_SIZE, true);
    assert.ok(first[0].memory instanceof MappedMemory);
    const theirs = unsealed(MFD_ALLOW_SEALING, 2 * PAGE_SIZE);
    const second = files.open(theirs, PAGE_SIZE, PAGE_SIZE, true);
    assert.ok(second[0].memory instanceof MappedMemory);
    assert.equal(sealsOf(theirs.fd), F_SEAL_SHRINK);
    assert.equal(sys.ftruncate(theirs.fd, 0), -1);
    for (const parts of [first, second]) files.release(parts);
    for (const fd of [sealed, theirs]) fd.close();
  }));

test('memory that its owner can cut off is guarded: a memfd without seals, a file, whatever its flags', () =>
  leavesNoFds(() => {
    const folder = mkdtempSync(join(tmpdir(), 'barter-shm-'));
    const path = join(folder, 'ram');
    const file = new OwnedFd(openSync(path, 'w+'), 'file');
    ftruncateSync(file.fd, 3 * PAGE_SIZE);
    const appending = new OwnedFd(openSync(path, O_RDWR | O_APPEND), 'file that appends');
    const files = newFiles();
    for (const fd of [unsealed(0, 3 * PAGE_SIZE), appending, file]) {
      const parts = files.open(fd, PAGE_SIZE, 2 * PAGE_SIZE, true);
      assert.ok(parts[0].memory instanceof GuardedMemory);
      write(parts, PAGE_SIZE - 2, Buffer.from('peer'));
      assert.equal(read(parts, PAGE_SIZE - 2, 4).toString(), 'peer');
      ftruncateSync(fd.fd, 2 * PAGE_SIZE);
      assert.throws(() => read(parts, PAGE_SIZE - 2, 4), refused('EFAULT', /took them away/));
      assert.throws(() => write(parts, PAGE_SIZE - 2, Buffer.alloc(4)), refused('EFAULT', /took them away/));
      read(parts, 0, 4);
      files.release(parts);
      ftruncateSync(fd.fd, 3 * PAGE_SIZE);
      fd.close();
    }
    const readOnly = new OwnedFd(openSync(path, 'r'), 'read-only file');
    const parts = files.open(readOnly, 0, PAGE_SIZE, false);
    assert.throws(() => write(parts, 0, Buffer.alloc(1)), refused('EACCES', /read-only/));
    files.release(parts);
    readOnly.close();
    rmSync(folder, { recursive: true });
  }));

test('what cannot be memory is refused, and nothing stays mapped', () =>
  leavesNoFds(() => {
    const files = newFiles();
    const open = (fd: OwnedFd, offset: number, size: number) => () => {
      try {
        files.open(fd, offset, size, true);
      } finally {
        fd.close();
      }
    };
    assert.throws(open(createEventfd(), 0, PAGE_SIZE), refused('EINVAL', /nor a file of a local file system/));
    assert.throws(open(createMemfd('refused', PAGE_SIZE), 0, 2 * PAGE_SIZE), refused('EINVAL', /of a file of 4096/));
    assert.throws(open(createMemfd('refused', 2 * PAGE_SIZE), 100, PAGE_SIZE), refused('EINVAL', /at 100/));
    assert.throws(open(createMemfd('refused', PAGE_SIZE), 0, 0), refused('EINVAL', /0 bytes/));
    const sealed = unsealed(MFD_ALLOW_SEALING, PAGE_SIZE);
    addSeals(sealed.fd, F_SEAL_FUTURE_WRITE);
    const parts = files.open(sealed, 0, PAGE_SIZE, false);
    files.release(parts);
    assert.throws(open(sealed, 0, PAGE_SIZE), refused('EPERM', /sealed against writes/));
    assert.deepEqual(linesOf('memfd:refused'), []);
    assert.throws(() => files.release(parts), /given back twice/);
  }));

test('a page that is punched out of a sealed memfd is a fresh one', () => {
  const files = newFiles();
  const memfd = createMemfd('punched', 2 * PAGE_SIZE);
  const parts = files.open(memfd, 0, 2 * PAGE_SIZE, true);
  write(parts, 8, Buffer.from('gone'));
  write(parts, PAGE_SIZE, Buffer.from('stays'));
  const own = sys.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.fd, 0);
  assert.equal(sys.madvise(own, PAGE_SIZE, MADV_REMOVE), 0);
  sys.munmap(own, PAGE_SIZE);
  assert.deepEqual(read(parts, 8, 4), Buffer.alloc(4));
  assert.equal(read(parts, PAGE_SIZE, 5).toString(), 'stays');
  assert.ok(sys.fcntl(memfd.fd, F_ADD_SEALS, F_SEAL_WRITE) < 0, 'nobody seals it while it is mapped');
  files.release(parts);
  memfd.close();
});

test('a hole in a file of a full file system does not answer; what is there does', (t) => {
  const folder = mounted(t, 'tmpfs', '-o', 'size=64k');
  if (folder === null) return;
  const file = new OwnedFd(openSync(join(folder, 'ram'), 'w+'), 'file');
  ftruncateSync(file.fd, 64 * PAGE_SIZE);
  const files = newFiles();
  const parts = files.open(file, 0, 64 * PAGE_SIZE, true);
  write(parts, 0, Buffer.from('first'));
  const rest = new OwnedFd(openSync(join(folder, 'rest'), 'w+'), 'file');
  const page = Buffer.alloc(PAGE_SIZE, 1);
  while (sys.pwrite(rest.fd, page, PAGE_SIZE, fstatSync(rest.fd).size) > 0) {}
  assert.throws(() => write(parts, 40 * PAGE_SIZE, page), refused('EFAULT', /took them away/));
  assert.throws(() => write(parts, 63 * PAGE_SIZE, Buffer.alloc(4)), refused('EFAULT', /took them away/));
  assert.equal(read(parts, 0, 5).toString(), 'first');
  ftruncateSync(rest.fd, 0);
  write(parts, 40 * PAGE_SIZE, page);
  assert.deepEqual(read(parts, 40 * PAGE_SIZE, PAGE_SIZE), page);
  files.release(parts);
  for (const fd of [file, rest]) fd.close();
});

test('regions of one file share a mapping, as long as any of them is there', () => {
  const pages = 1000;
  const part = fc.record({ page: fc.nat(pages - 1), pages: fc.integer({ min: 1, max: 20 }), writable: fc.boolean() });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 40 }), (wanted) => {
      const files = newFiles();
      const memfd = createMemfd('shared', pages * PAGE_SIZE);
      const held = wanted.map(({ page, pages: count, writable }) => {
        const sizeBytes = Math.min(count, pages - page) * PAGE_SIZE;
        return { page, parts: files.open(memfd, page * PAGE_SIZE, sizeBytes, writable), writable };
      });
      const kinds = new Set(held.map(({ writable }) => writable)).size;
      assert.equal(linesOf('memfd:shared').length, kinds, 'one to read, one to write as well');
      for (const { page, parts, writable } of held) {
        assert.equal(parts.length, 1);
        if (writable) write(parts, 0, Buffer.from([page & 255, page >> 8]));
        else read(parts, 0, 2);
      }
      const last = held.filter(({ writable }) => writable);
      for (const { page, parts } of last) assert.deepEqual(read(parts, 0, 2), Buffer.from([page & 255, page >> 8]));
      memfd.close();
      for (const [i, { parts }] of held.entries()) {
        files.release(parts);
        const left = new Set(held.slice(i + 1).map(({ writable }) => writable)).size;
        assert.equal(linesOf('memfd:shared').length, left);
      }
    }),
    { numRuns: 50 },
  );
});

test('a file that grew is mapped as far as it goes now; the regions of before keep theirs', () => {
  const files = newFiles();
  const memfd = unsealed(MFD_ALLOW_SEALING, PAGE_SIZE);
  const before = files.open(memfd, 0, PAGE_SIZE, true);
  ftruncateSync(memfd.fd, 5 * PAGE_SIZE);
  const after = files.open(memfd, 4 * PAGE_SIZE, PAGE_SIZE, true);
  const whole = files.open(memfd, 0, 5 * PAGE_SIZE, true);
  assert.equal(whole[0].memory, after[0].memory);
  assert.notEqual(whole[0].memory, before[0].memory);
  write(before, 8, Buffer.from('old'));
  write(after, 0, Buffer.from('new'));
  assert.equal(read(whole, 8, 3).toString(), 'old');
  assert.equal(read(whole, 4 * PAGE_SIZE, 3).toString(), 'new');
  files.release(before);
  files.release(whole);
  assert.equal(read(after, 0, 3).toString(), 'new');
  files.release(after);
  assert.deepEqual(linesOf('memfd:guest-ram'), []);
  memfd.close();
});

test('a region of many GiB is a part for each GiB of the file, and costs no memory', () => {
  const files = newFiles();
  const memfd = createMemfd('large', 14 * GIB);
  const parts = files.open(memfd, GIB / 2, 3 * GIB, true);
  assert.deepEqual(
    parts.map(({ offset, sizeBytes }) => [offset / GIB, sizeBytes / GIB]),
    [
      [0.5, 0.5],
      [0, 1],
      [0, 1],
      [0, 0.5],
    ],
  );
  parts[2].memory.write(GIB - 8, Buffer.from('borders'));
  parts[3].memory.write(0, Buffer.from('meet'));
  const across = files.open(memfd, 3 * GIB - PAGE_SIZE, 2 * PAGE_SIZE, true);
  assert.equal(across.length, 2);
  files.release(parts);
  const bytes = Buffer.alloc(7);
  across[0].memory.read(across[0].offset + PAGE_SIZE - 8, bytes);
  assert.equal(bytes.toString(), 'borders');
  files.release(across);
  assert.deepEqual(linesOf('memfd:large'), []);
  memfd.close();
});

test('both limits of a budget hold, for all owners and SharedFiles; what is refused leaves nothing', () =>
  leavesNoFds(() => {
    const memfds = Array.from({ length: 6 }, () => createMemfd('budget', 3 * GIB));
    const budget = new MappingBudget(3, 4);
    const [files, others] = [new SharedFiles(budget), new SharedFiles(budget)];
    const first = files.open(memfds[0], 0, PAGE_SIZE, true);
    const second = others.open(memfds[1], 0, PAGE_SIZE, true);
    assert.throws(() => files.open(memfds[2], 0, 3 * GIB, true), refused('ENOSPC', /3 of 3/));
    assert.equal(linesOf('memfd:budget').length, 2, 'a region that does not fit takes nothing');
    const third = files.open(memfds[2], 0, PAGE_SIZE, true);
    assert.throws(() => files.open(memfds[3], 0, PAGE_SIZE, true), refused('ENOSPC', /3 of 3/));
    const again = files.open(memfds[2], PAGE_SIZE, PAGE_SIZE, true);
    const stranger = newFiles(100, 4);
    const fourth = stranger.open(memfds[3], 0, PAGE_SIZE, true);
    assert.throws(() => stranger.open(memfds[4], 0, PAGE_SIZE, true), refused('ENOSPC', /4 of 4 with those of others/));
    others.release(second);
    const fifth = stranger.open(memfds[4], 0, PAGE_SIZE, true);
    for (const parts of [first, third, again]) files.release(parts);
    for (const parts of [fourth, fifth]) stranger.release(parts);
    assert.deepEqual(linesOf('memfd:budget'), []);
    for (const memfd of memfds) memfd.close();
  }));
