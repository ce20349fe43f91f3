import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Errno } from '../../src/abi/errno.ts';
import { Mapping, PAGE_SIZE } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { leavesNoFds } from './open-fds.ts';

const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

const map = (fd: number, pages: number, writable = true, offset = 0) =>
  Mapping.map({ fd, offset, sizeBytes: pages * PAGE_SIZE, writable, what: 'BAR 0' });

test('two mappings of one file show the same bytes, at their offsets', () => {
  leavesNoFds(() => {
    const memfd = createMemfd('bar', 2 * PAGE_SIZE);
    const whole = map(memfd.fd, 2);
    const upper = map(memfd.fd, 1, true, PAGE_SIZE);
    memfd.close();
    whole.write(PAGE_SIZE + 5, Buffer.from('lend'));
    const copy = Buffer.alloc(4);
    upper.read(5, copy);
    assert.equal(copy.toString(), 'lend');
    upper.view.setUint32(0, 0xdecade, true);
    assert.equal(whole.view.getUint32(PAGE_SIZE, true), 0xdecade);
    assert.equal(Atomics.load(new Int32Array(whole.buffer), PAGE_SIZE / 4), 0xdecade);
    whole.unmap();
    assert.equal(upper.view.getUint32(0, true), 0xdecade);
    upper.unmap();
  });
});

test('nothing that was taken from a mapping reaches memory after unmap', () => {
  const memfd = createMemfd('bar', PAGE_SIZE);
  const mapping = map(memfd.fd, 1);
  const { bytes, view, buffer } = mapping;
  const part = bytes.subarray(16, 32);
  part[0] = 7;
  mapping.unmap();
  mapping.unmap();
  assert.equal(bytes.length, 0);
  assert.equal(part.length, 0);
  assert.equal(part[0], undefined);
  assert.equal(buffer.byteLength, 0);
  part[0] = 9;
  assert.throws(() => view.getUint8(0), TypeError);
  assert.throws(() => mapping.view, refused('EFAULT', /BAR 0: used after it was unmapped/));
  assert.throws(() => mapping.bytes, refused('EFAULT', /unmapped/));
  assert.throws(() => mapping.address, refused('EFAULT', /unmapped/));
  assert.throws(() => mapping.read(0, Buffer.alloc(1)), refused('EFAULT', /unmapped/));
  assert.throws(() => mapping.write(0, Buffer.alloc(1)), refused('EFAULT', /unmapped/));
  // Writes through the dead view had no effect.
  const again = map(memfd.fd, 1);
  assert.equal(again.bytes[16], 7);
  again.unmap();
  memfd.close();
});

test('accesses outside and writes to a read-only mapping are refused, not faults', () => {
  const memfd = createMemfd('bar', PAGE_SIZE);
  const mapping = map(memfd.fd, 1, false);
  assert.throws(() => mapping.write(0, Buffer.alloc(1)), refused('EACCES', /read-only/));
  for (const [offset, length] of [
    [PAGE_SIZE, 1],
    [PAGE_SIZE - 3, 4],
    [-1, 1],
    [0.5, 1],
    [0, PAGE_SIZE + 1],
  ]) {
    assert.throws(() => mapping.read(offset, Buffer.alloc(length)), refused('EINVAL', /bytes at/));
  }
  mapping.unmap();
  assert.throws(() => map(memfd.fd, 1, true, 100), refused('EINVAL', /offset 100/));
  assert.throws(() => map(memfd.fd, 0), refused('EINVAL', /size 0/));
  memfd.close();
  assert.throws(() => map(1 << 30, 1), refused('EBADF', /mmap of BAR 0/));
});

test('garbage collection of views after unmap touches nothing', () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const memfd = createMemfd('bar', 64 * PAGE_SIZE);
  for (let i = 0; i < 200; i++) {
    const mapping = map(memfd.fd, 64);
    mapping.bytes.fill(i);
    new Uint8Array(mapping.buffer, 8, 8).set([1]);
    mapping.unmap();
    if (i % 50 === 0) gc();
  }
  gc();
  memfd.close();
});
