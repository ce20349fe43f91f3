import assert from 'node:assert/strict';
import { ftruncateSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/abi/errno.ts';
import { MFD_CLOEXEC } from '../../src/abi/mman.ts';
import { memfdMemory } from '../../src/linux/bar-memory.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { PAGE_SIZE } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { GuardedMemory, MappedMemory, type PlacedMemory } from '../../src/linux/placed-memory.ts';
import { arrayMemory } from '../../src/pci/memory.ts';
import { leavesNoFds } from './open-fds.ts';

const SIZE = 70 * PAGE_SIZE;
const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

function mapped(kind: typeof MappedMemory | typeof GuardedMemory, fd: number, sizeBytes = SIZE, writable = true) {
  return new kind({ fd, offset: 0, sizeBytes, writable, what: 'test' });
}

test('loads, stores and copies of both kinds do what an array does', () => {
  const access = fc.record({
    kind: fc.constantFrom('read', 'write', 'copy', 'copy back'),
    memory: fc.nat(1),
    offset: fc.nat(SIZE - 1),
    other: fc.nat(SIZE - 1),
    length: fc.oneof(fc.constantFrom(1, 2, 4, 8), fc.nat(70_000)),
    seed: fc.nat(255),
  });
  const memfds = [createMemfd('test', SIZE), createMemfd('test', SIZE)];
  const memories = [mapped(MappedMemory, memfds[0].fd), mapped(GuardedMemory, memfds[1].fd)];
  const models = [Buffer.alloc(SIZE), Buffer.alloc(SIZE)];
  fc.assert(
    fc.property(fc.array(access, { maxLength: 30 }), (accesses) => {
      for (const { kind, memory: i, offset, other, length: wanted, seed } of accesses) {
        const length = Math.min(wanted, SIZE - offset, SIZE - other);
        if (kind === 'write') {
          const bytes = Buffer.from(Array.from({ length }, (_, at) => (at * 7 + seed) & 255));
          memories[i].write(offset, bytes);
          models[i].set(bytes, offset);
        } else if (kind === 'read') {
          const bytes = Buffer.alloc(length);
          memories[i].read(offset, bytes);
          assert.equal(Buffer.compare(bytes, models[i].subarray(offset, offset + length)), 0);
        } else {
          const to = kind === 'copy' ? 1 - i : i;
          const copied = memories[i].copyTo(offset, memories[to], other, length);
          assert.equal(copied, i !== to || i === 0 || Math.abs(offset - other) >= length, 'unless the two overlap');
          if (!copied) continue;
          models[to].set(Buffer.from(models[i].subarray(offset, offset + length)), other);
        }
      }
      for (const [i, memory] of memories.entries()) {
        const all = Buffer.alloc(SIZE);
        memory.read(0, all);
        assert.equal(Buffer.compare(all, models[i]), 0);
      }
    }),
    { numRuns: 100 },
  );
  for (const each of [...memories, ...memfds]) each.close();
});

test('what is outside, read-only or closed is refused by both kinds, not a fault', () =>
  leavesNoFds(() => {
    const memfd = createMemfd('test', SIZE);
    for (const kind of [MappedMemory, GuardedMemory]) {
      const memory = mapped(kind, memfd.fd);
      const readOnly = mapped(kind, memfd.fd, SIZE, false);
      for (const [offset, length] of [
        [SIZE, 1],
        [SIZE - 3, 4],
        [-1, 1],
        [0.5, 1],
        [Number.NaN, 1],
        [0, SIZE + 1],
      ]) {
        assert.throws(() => memory.read(offset, Buffer.alloc(length)), refused('EINVAL', /bytes at/));
        assert.throws(() => memory.write(offset, Buffer.alloc(length)), refused('EINVAL', /bytes at/));
        assert.throws(() => memory.copyTo(offset, memory, 0, length), refused('EINVAL', /bytes at/));
        assert.throws(() => memory.copyTo(0, memory, offset, length), refused('EINVAL', /bytes at/));
      }
      assert.throws(() => readOnly.write(0, Buffer.alloc(1)), refused('EACCES', /read-only/));
      assert.throws(() => memory.copyTo(0, readOnly, 0, 1), refused('EACCES', /read-only/));
      assert.equal(memory.copyTo(0, arrayMemory('other', 4096), 0, 1), false, 'memory that has no address');
      memory.close();
      memory.close();
      for (const use of [
        () => memory.read(0, Buffer.alloc(4)),
        () => memory.write(0, Buffer.alloc(1)),
        () => memory.place(0, 1, false),
        () => readOnly.copyTo(0, memory, 0, 1),
        () => memory.copyTo(0, readOnly, 0, 1),
      ]) {
        assert.throws(use, refused('EFAULT', /unmapped/));
      }
      readOnly.close();
      assert.throws(() => mapped(kind, 1 << 30), refused('EBADF', /mmap of test/));
    }
    memfd.close();
  }));

test('a file that is cut off is EFAULT for guarded memory, by access and by copy; what is left is reached', () => {
  const fd = new OwnedFd(sys.memfd_create('test', MFD_CLOEXEC), 'test');
  ftruncateSync(fd.fd, SIZE);
  const memory = mapped(GuardedMemory, fd.fd);
  const file = createMemfd('test', SIZE);
  const mappedMemory = mapped(MappedMemory, file.fd);
  memory.write(0, Buffer.from('peer'));
  ftruncateSync(fd.fd, PAGE_SIZE);
  const back = Buffer.alloc(4);
  const gone = refused('EFAULT', /do(es)? not answer/);
  for (const offset of [PAGE_SIZE, PAGE_SIZE - 2, SIZE - 4]) {
    assert.throws(() => memory.read(offset, back), gone);
    assert.throws(() => memory.write(offset, back), gone);
    assert.throws(() => memory.copyTo(offset, mappedMemory, 0, 4), gone);
    assert.throws(() => mappedMemory.copyTo(0, memory, offset, 4), gone);
    assert.throws(() => memory.copyTo(0, memory, offset, 4), gone);
  }
  memory.read(0, back);
  assert.equal(back.toString(), 'peer');
  for (const each of [memory, mappedMemory, fd, file]) each.close();
});

/** The lines of this process's mappings that name `what`. */
function linesOf(what: string): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(what));
}

test('a place that is given back is used again, by one that fits, and shows nothing of what was there', () => {
  const addresses = new Set<number>();
  for (let round = 0; round < 100; round++) {
    const memfd = createMemfd('again', (1 + (round % 16)) * PAGE_SIZE);
    const memory: PlacedMemory = mapped(MappedMemory, memfd.fd, (1 + (round % 16)) * PAGE_SIZE);
    const bytes = Buffer.alloc(8, 0xff);
    memory.read(0, bytes);
    assert.deepEqual(bytes, Buffer.alloc(8), 'a fresh file');
    memory.write(0, Buffer.alloc(8, round + 1));
    addresses.add(memory.place(0, 1, false));
    memory.close();
    assert.deepEqual(linesOf('memfd:again'), []);
    memfd.close();
  }
  assert.ok(addresses.size <= 2, `${addresses.size} places for 100 mappings, one after the other`);
});

test('memory of huge alignment lies at a multiple of it', () => {
  const memory = memfdMemory('test', 4 << 20) as PlacedMemory;
  assert.equal(memory.place(0, 1, true) % (2 << 20), 0);
  memory.close();
});
