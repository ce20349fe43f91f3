/** Registers as the hardware holds them: the effect of writes, and capability lists of any form. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PCI_STATUS, PCI_STATUS_CAP_LIST } from '../../src/abi/pci_regs.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';

test('a write changes writable bits, clears by ones, and leaves all others; any width at any place', () => {
  const byte = fc.nat(0xff);
  const masks = fc.record({ value: byte, writable: byte, clearable: byte });
  const write = fc.record({ size: fc.constantFrom(1, 2, 4), value: fc.nat(0xffffffff) });
  fc.assert(
    fc.property(fc.array(masks, { minLength: 4, maxLength: 4 }), write, (bytes, { size, value }) => {
      const config = new ConfigSpace(256);
      for (const [i, one] of bytes.entries()) {
        config.set(0x80 + i, 1, one.value);
        config.allow(0x80 + i, 1, one.writable & ~one.clearable, one.clearable);
      }
      const given = config.write(0x80, size, value);
      assert.equal(given, config.read(0x80, size));
      for (const [i, one] of bytes.entries()) {
        const written = (value >>> (8 * i)) & 0xff;
        const kept = one.value & ~(one.writable & ~one.clearable);
        const expected = (kept | (written & one.writable & ~one.clearable)) & ~(written & one.clearable);
        assert.equal(config.read(0x80 + i, 1), i < size ? expected : one.value);
      }
    }),
  );
});

test('the last bytes are there, and none behind them: EFAULT for a read, a write, and a declaration', () => {
  for (const size of [256, 4096] as const) {
    const config = new ConfigSpace(size);
    config.set(size - 4, 4, 0x12345678);
    assert.equal(config.read(size - 1, 1), 0x12);
    for (const act of [
      () => config.read(size - 1, 2),
      () => config.write(size - 3, 4, 0),
      () => config.set(size, 1, 0),
      () => config.allow(size - 1, 2, 0),
      () => config.read(-1, 1),
    ]) {
      assert.throws(act, { code: 'EFAULT' });
    }
  }
});

test('capabilities are appended to both lists, and found by id', () => {
  const config = new ConfigSpace();
  assert.deepEqual(config.capabilities(), []);
  assert.equal(config.find(1), 0);
  assert.equal(config.findExt(1), 0);
  config.addCapability(0x01, 0x40);
  config.addCapability(0x10, 0x80);
  config.addExtended(0x0001, 2, 0x100);
  config.addExtended(0x0010, 1, 0x200);
  assert.equal(config.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
  assert.deepEqual(config.capabilities(), [
    { id: 0x01, offset: 0x40, extended: false },
    { id: 0x10, offset: 0x80, extended: false },
    { id: 0x0001, offset: 0x100, extended: true },
    { id: 0x0010, offset: 0x200, extended: true },
  ]);
  assert.deepEqual(
    [config.find(0x10), config.find(0x11), config.findExt(0x10), config.findExt(0x11)],
    [0x80, 0, 0x200, 0],
  );
  assert.equal(config.read(0x100, 4), 0x20020001);
});

test('lists that loop, point into the header or nowhere end, and every member is found', () => {
  const looping = (next: number): ConfigSpace => {
    const config = new ConfigSpace();
    config.set(PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
    config.set(0x34, 1, 0x40);
    config.set(0x40, 2, 0x5001);
    config.set(0x50, 2, (next << 8) | 0x05);
    return config;
  };
  for (const next of [0x40, 0x50, 0x00, 0x10, 0x3c]) {
    const config = looping(next);
    assert.deepEqual(
      config.capabilities().map(({ id }) => id),
      [1, 5],
      `next 0x${next.toString(16)}`,
    );
    assert.deepEqual([config.find(5), config.find(9)], [0x50, 0]);
  }
  // The two lowest bits of a pointer are reserved.
  assert.deepEqual(
    looping(0x43)
      .capabilities()
      .map(({ id }) => id),
    [1, 5],
  );
  const extended = new ConfigSpace();
  extended.set(0x100, 4, 0x2001000b);
  extended.set(0x200, 4, 0x1001000d);
  assert.deepEqual(
    extended.capabilities().map(({ id }) => id),
    [0x0b, 0x0d],
  );
  assert.deepEqual([extended.findExt(0x0d), extended.findExt(0x0e)], [0x200, 0]);
});

test('a list that STATUS does not announce is not there', () => {
  const config = new ConfigSpace();
  config.set(0x34, 1, 0x40);
  config.set(0x40, 1, 5);
  assert.equal(config.find(5), 0);
  assert.deepEqual(config.capabilities(), []);
});

test('256 bytes have no extended list', () => {
  const config = new ConfigSpace(256);
  assert.equal(config.findExt(1), 0);
  assert.equal(config.sizeBytes, 256);
});

test('what is saved comes back, and registers that were added since are 0', () => {
  const config = new ConfigSpace();
  config.set(0x40, 4, 0x01020304);
  const saved = config.save();
  config.set(0x40, 4, 5);
  config.set(0x200, 4, 6);
  config.restore(saved);
  assert.deepEqual([config.read(0x40, 4), config.read(0x200, 4)], [0x01020304, 0]);
});

test("another function's registers: what software can change is taken, the rest stays", () => {
  const config = new ConfigSpace(256);
  config.set(0x40, 4, 0xaaaaaaaa);
  config.allow(0x40, 2, 0xff00, 0x000f);
  config.loadWritable(new Uint8Array(256).fill(0x55));
  assert.equal(config.read(0x40, 4), 0xaaaa55a5);
  const copy = config.snapshot();
  copy[0x40] = 0;
  assert.equal(config.read(0x40, 1), 0xa5, 'a snapshot is a copy');
});
