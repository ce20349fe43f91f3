/** read(2) and write(2) on regions: bounds, disabled memory, and the MSI-X table in the middle of a BAR. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { ringDoorbell } from '../../src/vfio/rdwr.ts';
import { configOf, opened } from './rig.ts';

const SIZE = 4096;
/** Three vectors of 16 bytes. */
const TABLE = { offset: 0x200, end: 0x230 };

function rig() {
  const memory = new ArrayMemory(SIZE);
  for (let i = 0; i < SIZE; i++) memory.write(i, Uint8Array.of(i & 0x7f));
  const ports = new Bar(2, 'io', false, 16, new MemoryTarget(new ArrayMemory(16)));
  const bars = [new Bar(0, 'mem32', false, SIZE, new MemoryTarget(memory)), null, ports, null, null, null];
  const config = configOf([{ id: 0x11, at: 0x40, registers: { 0: 0x00020000, 4: TABLE.offset, 8: 0x800 } }]);
  config.allow(0x44, 4, 0);
  const all = opened(config, { bars });
  const read = (region: number, offset: number, length: number): number[] => {
    const into = new Uint8Array(length).fill(0xee);
    return [...into.subarray(0, runner.run(all.vdev.read(region, offset, into)))];
  };
  return { ...all, memory, at: read };
}

test('any read: bytes of the table are ones, all others the memory’s, wherever the access begins and ends', () => {
  const { at } = rig();
  fc.assert(
    fc.property(fc.integer({ min: 0x1d0, max: 0x240 }), fc.integer({ min: 1, max: 0x80 }), (offset, length) => {
      const expected = Array.from({ length }, (_, i) => {
        const place = offset + i;
        return place >= TABLE.offset && place < TABLE.end ? 0xff : place & 0x7f;
      });
      assert.deepEqual(at(0, offset, length), expected);
    }),
  );
});

test('any write: bytes of the table stay, all others change', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0x1d0, max: 0x240 }), fc.integer({ min: 1, max: 0x80 }), (offset, length) => {
      const { vdev, memory } = rig();
      assert.equal(runner.run(vdev.write(0, offset, new Uint8Array(length).fill(0xaa))), length);
      const seen = new Uint8Array(SIZE);
      memory.read(0, seen);
      for (let place = 0x180; place < 0x300; place++) {
        const inTable = place >= TABLE.offset && place < TABLE.end;
        const isWritten = place >= offset && place < offset + length && !inTable;
        assert.equal(seen[place], isWritten ? 0xaa : place & 0x7f, `0x${place.toString(16)}`);
      }
    }),
    { numRuns: 40 },
  );
});

test('an access is cut at the end of the region, and EINVAL behind it and where no region is', () => {
  const { at, vdev } = rig();
  assert.equal(at(0, SIZE - 3, 8).length, 3);
  assert.equal(runner.run(vdev.write(0, SIZE - 2, new Uint8Array(8))), 2);
  for (const [region, offset] of [
    [0, SIZE],
    [0, -1],
    [1, 0],
    [5, 0],
    [6, 0],
    [9, 0],
  ]) {
    assert.throws(() => at(region, offset, 1), { code: 'EINVAL' }, `${region} ${offset}`);
  }
});

test('memory that is off is EIO, and ports are not memory', () => {
  const { at, write, vdev } = rig();
  write(PCI_COMMAND, 2, 1);
  assert.throws(() => at(0, 0, 4), { code: 'EIO' });
  assert.throws(() => runner.run(vdev.write(0, 0, new Uint8Array(4))), { code: 'EIO' });
  assert.deepEqual(at(2, 0, 2), [0, 0]);
});

test('the ROM is read as ones, as far as it goes, and never written', () => {
  const { vdev } = opened(configOf([]), { romSizeBytes: 2048 });
  const into = new Uint8Array(8);
  assert.equal(runner.run(vdev.read(6, 2044, into)), 4);
  assert.deepEqual([...into], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
  assert.throws(() => runner.run(vdev.read(6, 2048, into)), { code: 'EINVAL' });
  assert.throws(() => runner.run(vdev.write(6, 0, into)), { code: 'EINVAL' });
});

test('the short way does what the long one does, and nothing where it cannot', () => {
  const { vdev, memory, write } = rig();
  const into = new Uint8Array(4);
  // The BAR with the table takes the slow path, and so do ports and config space.
  assert.equal(vdev.accessNow(0, 0, into, false), false);
  assert.equal(vdev.accessNow(2, 0, into, false), false);
  assert.equal(vdev.accessNow(7, 0, into, false), false);
  const plain = new Bar(0, 'mem32', false, SIZE, new MemoryTarget(memory));
  const other = opened(configOf([]), { bars: [plain, null, null, null, null, null] });
  assert.equal(other.vdev.accessNow(0, 4, into, false), true);
  assert.deepEqual([...into], [4, 5, 6, 7]);
  assert.equal(other.vdev.accessNow(0, 4, Uint8Array.of(9), true), true);
  assert.equal(other.vdev.accessNow(0, SIZE - 2, into, false), false);
  other.write(PCI_COMMAND, 2, 0);
  assert.equal(other.vdev.accessNow(0, 4, into, false), false);
  other.write(PCI_COMMAND, 2, 2);
  const { memoryLock } = other.vdev;
  runner.run(
    (function* () {
      yield* memoryLock.write();
      assert.equal(other.vdev.accessNow(0, 4, into, false), false);
      yield* memoryLock.releaseWrite();
    })(),
  );
  assert.equal(other.vdev.accessNow(0, 4, into, false), true);
  assert.equal(into[0], 9);
  write(PCI_COMMAND, 2, 0);
});

test('a doorbell rings where memory is on, and is lost without a word where it is off', () => {
  const { vdev, write } = rig();
  let rings = 0;
  const doorbell = { offset: 0, sizeBytes: 1, datamatch: 0, ring: () => (rings += 1) };
  runner.run(ringDoorbell(vdev, doorbell as never));
  write(PCI_COMMAND, 2, 0);
  runner.run(ringDoorbell(vdev, doorbell as never));
  assert.equal(rings, 1);
});
