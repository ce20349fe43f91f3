import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { MappedMemory } from '../../src/linux/placed-memory.ts';
import { mapMemory, SegmentedMemory } from '../../src/linux/segmented-memory.ts';
import { leavesNoFds } from './open-fds.ts';

const GIB = 2 ** 30;

test('memory larger than a view is reached in parts, across their borders', () =>
  leavesNoFds(() => {
    const memory = mapMemory(createMemfd('large', 14 * GIB), 14 * GIB);
    assert.ok(memory instanceof SegmentedMemory);
    for (const at of [0, GIB - 3, 4 * GIB - 1, 14 * GIB - 8]) {
      const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, at % 251]);
      memory.write(at, bytes);
      const back = new Uint8Array(8);
      memory.read(at, back);
      assert.deepEqual(back, bytes);
    }
    for (const at of [-1, 14 * GIB - 7, 14 * GIB, Number.NaN]) {
      assert.throws(() => memory.read(at, new Uint8Array(8)), Errno);
      assert.throws(() => memory.place(at, 8, false), Errno);
    }
    memory.close();
    assert.throws(() => memory.read(0, new Uint8Array(8)), Errno);
  }));

test('a copy goes from part to part, but not across their border', () =>
  leavesNoFds(() => {
    const memory = mapMemory(createMemfd('large', 3 * GIB), 3 * GIB);
    const small = mapMemory(createMemfd('small', 4096), 4096);
    assert.ok(small instanceof MappedMemory);
    memory.write(GIB + 5, Buffer.from('lend'));
    assert.ok(memory.copyTo?.(GIB + 5, memory, 2 * GIB, 4));
    assert.ok(memory.copyTo?.(2 * GIB, small, 100, 4));
    const bytes = Buffer.alloc(4);
    small.read(100, bytes);
    assert.equal(bytes.toString(), 'lend');
    assert.equal(memory.copyTo?.(GIB - 2, small, 0, 4), false);
    assert.equal(small.copyTo?.(0, memory, 2 * GIB - 2, 4), false);
    memory.close();
    small.close();
  }));

test('one mapping of more than an ArrayBuffer holds is refused, not a crash', () =>
  leavesNoFds(() => {
    const memfd = createMemfd('large', 5 * GIB);
    const request = { fd: memfd.fd, offset: 0, sizeBytes: 5 * GIB, writable: true, what: 'large' };
    assert.throws(() => Mapping.map(request), /EINVAL/);
    memfd.close();
  }));
