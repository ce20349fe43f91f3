import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../src/abi/errno.ts';
import { bytes, packedStruct, s32, s64, struct, u8, u16, u32, u64, viewOf } from '../../src/abi/layout.ts';
import { joinU64, numberToU64, U64_MAX, u64ToNumber } from '../../src/abi/u64.ts';

test('a declaration that does not add up is refused at load', () => {
  assert.throws(
    () => struct('gap', 8, { a: u32(0), b: u16(6) }),
    /gap\.b is declared at 6, the field before it ends at 4/,
  );
  assert.throws(() => struct('overlap', 8, { a: u32(0), b: u32(2) }), /overlap\.b is declared at 2/);
  assert.throws(() => struct('crooked', 12, { a: u32(0), b: u64(4) }), /crooked\.b at 4 is not aligned to 8/);
  assert.throws(() => struct('short', 8, { a: u32(0) }), /struct short ends at 4, declared 8/);
  assert.throws(() => struct('tail', 12, { a: u64(0), b: u32(8) }), /lacks its tail padding to 8/);
  assert.equal(packedStruct('packed', 12, { a: u32(0), b: u64(4) }).sizeof, 12);
});

test('fields keep what is written, at any base, and nothing beside it', () => {
  const all = packedStruct('all', 29, {
    a: u8(0),
    b: u16(1),
    c: u32(3),
    d: s32(7),
    e: u64(11),
    f: s64(19),
    g: bytes(27, 2),
  });
  const value = fc.record({
    a: fc.integer({ min: 0, max: 0xff }),
    b: fc.integer({ min: 0, max: 0xffff }),
    c: fc.integer({ min: 0, max: 0xffff_ffff }),
    d: fc.integer(),
    e: fc.maxSafeNat(),
    f: fc.maxSafeInteger(),
    g: fc.uint8Array({ minLength: 2, maxLength: 2 }),
  });
  fc.assert(
    fc.property(value, fc.nat(9), (v, base) => {
      const buffer = Buffer.alloc(all.sizeof + 10, 0xee);
      all.write(viewOf(buffer), base, v);
      const back = all.read(viewOf(buffer), base);
      assert.deepEqual({ ...back, g: Uint8Array.from(back.g) }, { ...v });
      assert.ok(buffer.subarray(0, base).every((x) => x === 0xee));
      assert.ok(buffer.subarray(base + all.sizeof).every((x) => x === 0xee));
    }),
  );
});

test('u64 fields carry all 64 bits as bigint and refuse to round as numbers', () => {
  const s = struct('s', 8, { x: u64(0) });
  const view = new DataView(new ArrayBuffer(8));
  s.fields.x.set(view, 0, U64_MAX);
  assert.equal(s.fields.x.getBig(view), U64_MAX);
  assert.throws(
    () => s.fields.x.get(view),
    (e: Errno) => e.code === 'EOVERFLOW' && /s\.x = 0xffffffffffffffff/.test(e.message),
  );
  s.fields.x.set(view, 0, Number.MAX_SAFE_INTEGER);
  assert.equal(s.fields.x.get(view), Number.MAX_SAFE_INTEGER);
  for (const bad of [-1, 0.5, 2 ** 53, Number.NaN]) {
    assert.throws(
      () => s.fields.x.set(view, 0, bad),
      (e: Errno) => e.code === 'EINVAL',
    );
  }
  assert.throws(() => s.fields.x.set(view, 0, -1n), Errno);
  assert.throws(() => s.fields.x.set(view, 0, U64_MAX + 1n), Errno);
});

test('u64 conversions agree with each other', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (n) => {
      const big = numberToU64(n, 'n');
      assert.equal(u64ToNumber(big, 'n'), n);
      assert.equal(joinU64(Number(big & 0xffff_ffffn), Number(big >> 32n), 'n'), n);
    }),
  );
  assert.throws(() => u64ToNumber(2n ** 53n, 'length'), /EOVERFLOW: length = 0x20000000000000/);
  assert.throws(() => joinU64(0, 0x20_0000, 'length'), /EOVERFLOW/);
});

test('writing an unknown field and too many bytes are refused by name', () => {
  const s = struct('named', 4, { name: bytes(0, 4) });
  const view = new DataView(new ArrayBuffer(4));
  assert.throws(() => s.write(view, 0, { other: 1 } as never), /struct named has no field other/);
  assert.throws(() => s.write(view, 0, { name: Buffer.from('12345') }), /named\.name holds 4 bytes, not 5/);
});
