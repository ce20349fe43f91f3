/**
 * Opening and closing: the permissions, the work of the first open and the last close, and devices that nothing has
 * open.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { configOf, opened } from './rig.ts';

function rig() {
  const bars = [
    new Bar(0, 'mem32', false, 4096, new MemoryTarget(new ArrayMemory(4096))),
    new Bar(1, 'io', false, 16, new MemoryTarget(new ArrayMemory(16))),
    null,
    null,
    null,
    null,
  ];
  return opened(configOf([{ id: 0x01, at: 0x40, registers: { 4: 8 } }]), { bars });
}

test('the first open claims and enables; others share; the last close gives all back', () => {
  const { fn, vdev } = rig();
  assert.deepEqual([vdev.isOpen, fn.bars[0]!.claimed, fn.memoryDecode.value], [true, true, true]);
  runner.run(vdev.open());
  assert.equal(vdev.openCount, 2);
  runner.run(vdev.write(7, 4, Uint8Array.of(6, 0)));
  runner.run(vdev.close());
  assert.deepEqual([vdev.isOpen, fn.busMaster], [true, true]);
  runner.run(vdev.close());
  assert.deepEqual([vdev.isOpen, fn.bars[0]!.claimed, fn.busMaster], [false, false, false]);
  assert.throws(() => vdev.config, { code: 'ENODEV' });
  assert.throws(() => runner.run(vdev.close()), /I3/);
});

test('a device in D3hot is opened, and left, in D0', () => {
  const { fn, vdev } = rig();
  runner.run(vdev.write(7, 0x44, Uint8Array.of(3, 0)));
  assert.equal(fn.powerState.value, 3);
  runner.run(vdev.close());
  assert.equal(fn.powerState.value, 0);
  runner.run(fn.setPowerState(3));
  runner.run(vdev.open());
  assert.equal(fn.powerState.value, 0);
});

test('what may be lent: BARs that are claimed, ports as well, and nothing of a closed device', () => {
  const { fn, vdev } = rig();
  assert.deepEqual(
    [0, 1, 2, 6, 7].map((index) => vdev.exportableBar(index)),
    [fn.bars[0], fn.bars[1], null, null, null],
  );
  assert.deepEqual([vdev.isMappable(fn.bars[0]!), vdev.isMappable(fn.bars[1]!)], [true, false]);
  fn.bars[0]!.claimed = false;
  assert.equal(vdev.exportableBar(0), null);
});

test('nobody opens a device that is being unregistered', () => {
  const { vdev } = rig();
  runner.run(vdev.close());
  runner.run(vdev.unregister());
  assert.throws(() => runner.run(vdev.open()), { code: 'ENODEV' });
  assert.equal(vdev.isOpen, false);
});

test('interrupts, mappings and low power end with the last close', () => {
  const { vdev } = rig();
  const mapping = vdev.mmap(0, 0, 4096);
  runner.run(mapping.read(0, new Uint8Array(1)));
  runner.run(vdev.enterLowPower(null));
  runner.run(vdev.close());
  assert.equal(vdev.lowPower.engaged.value, false);
  assert.throws(() => runner.run(mapping.read(0, new Uint8Array(1))), /SIGBUS/);
});
