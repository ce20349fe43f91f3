import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { covers, overlaps, setsBits } from '../../src/pci/register-write.ts';

test('a write, byte by byte: which it covers, and which bits of a 16-bit register it sets', () => {
  const write = fc.record({
    offset: fc.nat(8),
    size: fc.constantFrom(1 as const, 2 as const, 4 as const),
    value: fc.nat(0xffffffff),
  });
  fc.assert(
    fc.property(write, fc.nat(10), fc.nat(0xffff), fc.nat(5), (one, register, bits, length) => {
      const bytes = new Map<number, number>();
      for (let i = 0; i < one.size; i++) bytes.set(one.offset + i, (one.value >>> (8 * i)) & 0xff);
      assert.equal(covers(one, register), bytes.has(register));
      const touches = Array.from({ length }, (_, i) => register + i).some((at) => bytes.has(at));
      if (length > 0) assert.equal(overlaps(one.offset, one.size, register, length), touches);
      const word = (bytes.get(register) ?? 0) | ((bytes.get(register + 1) ?? 0) << 8);
      assert.equal(setsBits(one, register, bits), (word & bits) !== 0);
    }),
  );
});
