/** A user's mapping of a BAR: faults, zaps, and the bytes after a small BAR. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import type { BarMapping } from '../../src/vfio/mmap.ts';
import { configOf, opened } from './rig.ts';

const PAGE = 4096;

function rig() {
  const registers = { memory: null, read: () => {}, write: () => {} };
  const bars = [
    new Bar(0, 'mem32', false, 2 * PAGE, new MemoryTarget(new ArrayMemory(2 * PAGE))),
    new Bar(1, 'mem32', false, 64, new MemoryTarget(new ArrayMemory(64))),
    new Bar(2, 'io', false, 16, new MemoryTarget(new ArrayMemory(16))),
    new Bar(3, 'mem32', false, PAGE, registers),
    null,
    null,
  ];
  const all = opened(configOf([{ id: 0x01, at: 0x40, registers: { 4: 8 } }]), { bars });
  const memory = (on: boolean): void => all.write(4, 2, on ? 2 : 0);
  const load = (mapping: BarMapping, offset: number, length: number): number[] => {
    const into = new Uint8Array(length);
    runner.run(mapping.read(offset, into));
    return [...into];
  };
  return { ...all, memory, load };
}

test('only memory with bytes behind it is mapped, and no more than there is', () => {
  const { vdev } = rig();
  for (const [region, offset, length] of [
    [2, 0, 16],
    [3, 0, PAGE],
    [4, 0, PAGE],
    [6, 0, PAGE],
    [7, 0, PAGE],
    [0, 0, 0],
    [0, -PAGE, PAGE],
    [0, PAGE, 2 * PAGE],
    [1, 0, PAGE + 1],
  ]) {
    assert.throws(() => vdev.mmap(region, offset, length), { code: 'EINVAL' }, `${region} ${offset}+${length}`);
  }
  assert.equal(vdev.mappings.size, 0);
});

test('loads and stores reach the BAR, from where the mapping begins', () => {
  const { vdev, load } = rig();
  const mapping = vdev.mmap(0, PAGE, PAGE);
  runner.run(mapping.write(2, Uint8Array.of(1, 2, 3)));
  assert.deepEqual(load(mapping, 1, 4), [0, 1, 2, 3]);
  assert.deepEqual(load(vdev.mmap(0, 0, 2 * PAGE), PAGE + 2, 3), [1, 2, 3]);
});

test('a small BAR has its page for itself: ones behind its end, and stores are lost there', () => {
  const { vdev, load } = rig();
  const mapping = vdev.mmap(1, 0, PAGE);
  runner.run(mapping.write(62, Uint8Array.of(1, 2, 3, 4)));
  assert.deepEqual(load(mapping, 61, 5), [0, 1, 2, 0xff, 0xff]);
  assert.deepEqual(load(mapping, PAGE - 1, 1), [0xff]);
});

test('memory that goes off is SIGBUS, by COMMAND, D3hot, low power and close; what comes back faults in again', () => {
  const { vdev, memory, load, write } = rig();
  const mapping = vdev.mmap(0, 0, PAGE);
  runner.run(mapping.write(0, Uint8Array.of(7)));
  memory(false);
  assert.throws(() => load(mapping, 0, 1), { name: 'BusError' });
  memory(true);
  assert.deepEqual(load(mapping, 0, 1), [7]);
  write(0x44, 2, 3);
  assert.throws(() => load(mapping, 0, 1), { name: 'BusError' });
  write(0x44, 2, 0);
  assert.deepEqual(load(mapping, 0, 1), [7]);
  runner.run(vdev.enterLowPower(null));
  assert.throws(() => load(mapping, 0, 1), { name: 'BusError' });
  runner.run(vdev.close());
  assert.throws(() => load(mapping, 0, 1), { name: 'BusError' });
});

test('an unmapped one, and bytes outside of it, are SIGBUS', () => {
  const { vdev, load } = rig();
  const mapping = vdev.mmap(0, 0, PAGE);
  assert.throws(() => load(mapping, PAGE - 1, 2), { name: 'BusError' });
  assert.throws(() => load(mapping, -1, 1), { name: 'BusError' });
  mapping.unmap();
  assert.equal(vdev.mappings.size, 0);
  assert.throws(() => load(mapping, 0, 1), { name: 'BusError' });
});
