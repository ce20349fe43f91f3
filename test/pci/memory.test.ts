import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ArrayMemory, arrayMemory, type Memory, tryCopy } from '../../src/pci/memory.ts';

const PAGE = 4096;

test('an array and sparse pages hold the same bytes', () => {
  const write = fc.record({
    offset: fc.nat(20 * PAGE - 1),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 3 * PAGE }),
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 4 }), (writes) => {
      const size = 20 * PAGE;
      const [sparse, plain] = [arrayMemory('sparse', size), new ArrayMemory(size)];
      assert.notEqual(sparse.constructor, plain.constructor);
      for (const { offset, bytes } of writes) {
        for (const memory of [sparse, plain]) memory.write(offset, bytes.subarray(0, size - offset));
      }
      const [a, b] = [new Uint8Array(size), new Uint8Array(size)];
      sparse.read(0, a);
      plain.read(0, b);
      assert.ok(Buffer.from(a).equals(b));
      for (const { offset, sizeBytes } of sparse.extents!()) a.fill(0, offset, offset + sizeBytes);
      assert.ok(
        a.every((byte) => byte === 0),
        'all else is zeros',
      );
    }),
    { numRuns: 30 },
  );
});

test('nobody leaves a memory: EFAULT', () => {
  for (const memory of [new ArrayMemory(8), arrayMemory('large', 1 << 20)]) {
    for (const offset of [memory.sizeBytes - 1, -1, memory.sizeBytes]) {
      assert.throws(() => memory.read(offset, new Uint8Array(2)), { code: 'EFAULT' });
      assert.throws(() => memory.write(offset, new Uint8Array(2)), { code: 'EFAULT' });
    }
  }
});

test('pages are told in the order of their addresses, whatever was written first', () => {
  const memory = arrayMemory('sparse', 1 << 30);
  for (const page of [30, 4, 11, 2]) memory.write(page * PAGE, Uint8Array.of(1));
  assert.deepEqual(
    [...memory.extents!()],
    [2, 4, 11, 30].map((page) => ({ offset: page * PAGE, sizeBytes: PAGE })),
  );
});

test('a copy between two memories says whether both answered; a defect is not hidden', () => {
  const [from, to] = [new ArrayMemory(16), new ArrayMemory(16)];
  from.write(0, Uint8Array.of(1, 2, 3, 4));
  assert.equal(tryCopy(from, 0, to, 8, 4), true);
  const into = new Uint8Array(4);
  to.read(8, into);
  assert.deepEqual([...into], [1, 2, 3, 4]);
  assert.equal(tryCopy(from, 14, to, 0, 4), false);
  assert.equal(tryCopy(from, 0, to, 14, 4), false);
  const broken: Memory = {
    sizeBytes: 16,
    read: () => {
      throw new RangeError('a defect');
    },
    write: () => {},
    close: () => {},
  };
  assert.throws(() => tryCopy(broken, 0, to, 0, 4), RangeError);
});

test('memories that can copy by themselves are asked first; where they cannot, the bytes go through a buffer', () => {
  for (const canCopy of [true, false]) {
    const [source, to] = [new ArrayMemory(16), new ArrayMemory(16)];
    source.write(0, Uint8Array.of(7));
    let reads = 0;
    const from: Memory = {
      sizeBytes: 16,
      read: (offset, into) => {
        reads += 1;
        source.read(offset, into);
      },
      write: () => {},
      copyTo: () => canCopy,
      close: () => {},
    };
    assert.equal(tryCopy(from, 0, to, 3, 1), true);
    const into = new Uint8Array(1);
    to.read(3, into);
    assert.deepEqual([reads, into[0]], canCopy ? [0, 0] : [1, 7]);
  }
});
