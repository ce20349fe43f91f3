import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE } from '../../src/abi/mman.ts';
import { check, Pinned, sys } from '../../src/linux/ffi.ts';
import { copyBySocket, type GuardedCopy, readGuarded, writeGuarded } from '../../src/linux/guarded-copy.ts';

const PAGE = 4096;
const WAYS: Record<string, GuardedCopy> = { readGuarded, writeGuarded, copyBySocket };

for (const [name, copy] of Object.entries(WAYS)) {
  test(`${name} copies any length, and answers false where a side does not answer`, () => {
    const bytes = 300_000;
    const from = new Pinned(bytes);
    const to = new Pinned(bytes);
    for (let i = 0; i < bytes; i++) from.bytes[i] = i % 251;
    for (const length of [1, 4095, 65_536, 65_537, bytes - 1]) {
      to.bytes.fill(0);
      assert.ok(copy(to.address, from.address, length));
      assert.equal(Buffer.compare(to.bytes.subarray(0, length), from.bytes.subarray(0, length)), 0, `${length} bytes`);
      assert.equal(to.bytes[length], 0, 'and no more');
    }
    // A readable page before an unreadable one.
    const pages = check(
      sys.mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      () => 'mmap',
    );
    check(sys.mprotect(pages + PAGE, PAGE, PROT_NONE), () => 'mprotect');
    for (const at of [pages + PAGE, pages + PAGE - 8]) {
      assert.equal(copy(to.address, at, 16), false, 'read');
      assert.equal(copy(at, from.address, 16), false, 'write');
    }
    assert.ok(copy(to.address, from.address + 7, 16), 'the next copy has its own bytes');
    assert.equal(Buffer.compare(to.bytes.subarray(0, 16), from.bytes.subarray(7, 23)), 0);
    sys.munmap(pages, 2 * PAGE);
  });
}
