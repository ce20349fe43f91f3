/** The information that a device reports about its regions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { deviceInfo, msixTablePages, regionInfo } from '../../src/vfio/regions.ts';
import { configOf, opened } from './rig.ts';

const [READ, WRITE, MMAP] = [1, 2, 4];

test('flags, sizes and places of each region; EINVAL for others', () => {
  const config = configOf([{ id: 0x11, at: 0x40, registers: { 0: 0x00030000, 4: 0x1000 } }]);
  const bars = [
    new Bar(0, 'mem64', false, 8192, new MemoryTarget(new ArrayMemory(8192))),
    null,
    new Bar(2, 'io', false, 16, new MemoryTarget(new ArrayMemory(16))),
    new Bar(3, 'mem32', false, 4096, { memory: null, read: () => {}, write: () => {} }),
    null,
    null,
  ];
  const { vdev } = opened(config, { bars, romSizeBytes: 2048 });
  const seen = [0, 1, 2, 3, 6, 7].map((index) => {
    const { flags, sizeBytes, msixMappable } = regionInfo(vdev, index);
    return [flags, sizeBytes, msixMappable];
  });
  assert.deepEqual(seen, [
    [READ | WRITE | MMAP, 8192, true],
    [0, 0, false],
    [READ | WRITE, 16, false],
    [READ | WRITE, 4096, false],
    [READ, 2048, false],
    [READ | WRITE, 4096, false],
  ]);
  assert.deepEqual([regionInfo(vdev, 0).offset, regionInfo(vdev, 3).offset], [0, 3 * 2 ** 40]);
  for (const index of [-1, 8, 9]) assert.throws(() => regionInfo(vdev, index), { code: 'EINVAL' });
  assert.deepEqual(msixTablePages(vdev), { barIndex: 0, offset: 4096, sizeBytes: 4096 });
  const bare = opened(configOf([])).vdev;
  assert.deepEqual([msixTablePages(bare), regionInfo(bare, 6).flags], [null, 0]);
});

test('a device says that it can be reset where it can', () => {
  const { vdev } = opened(configOf([]));
  assert.deepEqual(deviceInfo(vdev), { flags: 3, numRegions: 9, numIrqs: 5 });
  // Not below a port, so without a bus to reset.
  vdev.pdev.parent = null;
  assert.equal(deviceInfo(vdev).flags, 2);
});

test('a table that crosses pages takes all of them', () => {
  const { vdev } = opened(configOf([{ id: 0x11, at: 0x40, registers: { 0: 0x00010000, 4: 0xff0 | 1 } }]));
  assert.deepEqual(msixTablePages(vdev), { barIndex: 1, offset: 0, sizeBytes: 8192 });
});
