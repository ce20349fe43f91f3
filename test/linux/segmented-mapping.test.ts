import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { openSharedMemory } from '../../src/linux/shared-memory.ts';
import { leavesNoFds } from './open-fds.ts';

const GIB = 2 ** 30;

test('memory larger than an ArrayBuffer is reached in parts, across their borders', () =>
  leavesNoFds(() => {
    const memory = openSharedMemory(createMemfd('large', 14 * GIB), 0, 14 * GIB, true);
    for (const at of [0, GIB - 3, 4 * GIB - 1, 14 * GIB - 8]) {
      const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, at % 251]);
      memory.write(at, bytes);
      const back = new Uint8Array(8);
      memory.read(at, back);
      assert.deepEqual(back, bytes);
    }
    for (const at of [-1, 14 * GIB - 7, 14 * GIB, Number.NaN]) {
      assert.throws(() => memory.read(at, new Uint8Array(8)), Errno);
    }
    memory.close();
    assert.throws(() => memory.read(0, new Uint8Array(8)), Errno);
  }));

test('one mapping of more than an ArrayBuffer holds is refused, not a crash', () =>
  leavesNoFds(() => {
    const memfd = createMemfd('large', 5 * GIB);
    const request = { fd: memfd.fd, offset: 0, sizeBytes: 5 * GIB, writable: true, what: 'large' };
    assert.throws(() => Mapping.map(request), /EINVAL/);
    memfd.close();
  }));
