/** Config space as its user sees it: how accesses are split, the header, BARs, and odd writes with side effects. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { configOf, opened } from './rig.ts';

const bar = (index: number, kind: 'mem32' | 'mem64' | 'io', sizeBytes: number, prefetchable = false): Bar =>
  new Bar(index, kind, prefetchable, sizeBytes, new MemoryTarget(new ArrayMemory(Math.min(sizeBytes, 4096))));

test('a read of any bytes is the bytes one by one, whatever capabilities it crosses', () => {
  const { vdev, read } = opened(
    configOf(
      [
        { id: 0x01, at: 0x40 },
        { id: 0x13, at: 0x48 },
        { id: 0x05, at: 0x51 & ~3 },
      ],
      [{ id: 0x03, at: 0x100 }],
    ),
  );
  const all = Array.from({ length: 4096 }, (_, at) => read(at, 1));
  fc.assert(
    fc.property(fc.nat(4095), fc.integer({ min: 1, max: 64 }), (offset, length) => {
      const into = new Uint8Array(Math.min(length, 4096 - offset));
      assert.equal(runner.run(vdev.read(7, offset, into)), into.length);
      assert.deepEqual([...into], all.slice(offset, offset + into.length));
    }),
  );
});

test('bytes outside of config space are EFAULT, for reads and writes, and nothing of such a write is done', () => {
  const { vdev, read } = opened(configOf([]));
  for (const [offset, length] of [
    [4095, 2],
    [4096, 1],
    [5000, 4],
  ]) {
    assert.throws(() => runner.run(vdev.read(7, offset, new Uint8Array(length))), { code: 'EFAULT' });
    assert.throws(() => runner.run(vdev.write(7, offset, new Uint8Array(length).fill(1))), { code: 'EFAULT' });
  }
  assert.equal(read(4095, 1), 0);
});

test('bytes that no capability owns are the hardware’s own registers', () => {
  const { fn, read, write } = opened(configOf([]));
  write(0x90, 4, 0x11223344);
  assert.equal(fn.config.read(0x90, 4), 0x11223344);
  fn.config.set(0x90, 4, 5);
  assert.equal(read(0x90, 4), 5);
});

test('BARs are sized by ones, keep the type bits, and never reach the hardware', () => {
  const { fn, read, write } = opened(configOf([]), {
    bars: [bar(0, 'mem64', 2 ** 33, true), null, bar(2, 'mem32', 4096), bar(3, 'io', 32), null, null],
  });
  const before = [0x10, 0x14, 0x18, 0x1c].map((at) => fn.config.read(at, 4));
  for (let at = 0x10; at < 0x28; at += 4) write(at, 4, 0xffffffff);
  write(0x30, 4, 0xffffffff);
  assert.deepEqual(
    [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map((at) => read(at, 4)),
    [0x0000000c, 0xfffffffe, 0xfffff000, 0xffffffe1, 0, 0, 0],
  );
  assert.deepEqual(
    [0x10, 0x14, 0x18, 0x1c].map((at) => fn.config.read(at, 4)),
    before,
  );
  // One byte of it alone.
  write(0x19, 1, 0x20);
  assert.equal(read(0x18, 4), 0xffff2000);
});

test('the size of a ROM, with its enable bit', () => {
  const { read, write } = opened(configOf([]), { romSizeBytes: 0x10000 });
  write(0x30, 4, 0xffffffff);
  assert.equal(read(0x30, 4), 0xffff0001);
});

test('INTx disable is a copy; bus mastering is the hardware’s', () => {
  const { fn, read, write } = opened(configOf([]));
  write(PCI_COMMAND, 2, 0x0407);
  assert.equal(read(PCI_COMMAND, 2) & 0x0407, 0x0407);
  assert.equal(fn.config.read(PCI_COMMAND, 2) & 0x0404, 0x0004);
  // A write of the high byte alone leaves the memory bit.
  write(PCI_COMMAND + 1, 1, 0);
  assert.equal(read(PCI_COMMAND, 2) & 0x0406, 0x0006);
});

test('the interrupt line is the user’s, and pin, ids and pointers are read-only', () => {
  const config = configOf([{ id: 0x01, at: 0x40 }]);
  config.set(0, 4, 0x0b011b36);
  config.set(0x3d, 1, 1);
  const { fn, read, write } = opened(config);
  write(0x3c, 4, 0xffffffff);
  write(0x34, 4, 0xffffffff);
  write(0, 4, 0);
  assert.deepEqual([read(0x3c, 2), read(0x34, 1), read(0, 4)], [0x01ff, 0x40, 0x0b011b36]);
  assert.equal(fn.config.read(0x3c, 1), 0);
});

test('memory that a reset took behind our back comes back with its BARs when the user sets the bit again', () => {
  const { fn, read, write } = opened(configOf([]), { bars: [bar(0, 'mem32', 4096), null, null, null, null, null] });
  const address = fn.config.read(0x10, 4);
  runner.run(fn.hardwareReset());
  assert.equal(fn.config.read(0x10, 4), 0);
  write(PCI_COMMAND, 2, 2);
  assert.equal(fn.config.read(0x10, 4), address);
  assert.equal(read(PCI_COMMAND, 2) & 2, 2);
  assert.equal(fn.memoryDecode.value, true);
});
