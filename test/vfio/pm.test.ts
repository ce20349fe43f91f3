/** Power as its user controls it: PMCSR, low power, and the states of both that take the memory away. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_SET,
} from '../../src/abi/vfio-feature.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { resume } from '../../src/vfio/pm.ts';
import { PROFILES, type Profile } from '../../src/vfio/profile.ts';
import { BufferMemory } from '../../src/vfio/user.ts';
import { Counting, callerWith, configOf, opened } from './rig.ts';

const PMCSR = 0x44;

/** A function with D1 and D2, whose state survives D3hot. */
function rig(profile: Profile = PROFILES.default) {
  const config = configOf([{ id: 0x01, at: 0x40, registers: { 0: 0xfe030000, 4: 0x8108 } }]);
  config.allow(PMCSR, 4, 0x1f03);
  const bars = [
    new Bar(0, 'mem32', false, 4096, new MemoryTarget(new ArrayMemory(4096))),
    null,
    null,
    null,
    null,
    null,
  ];
  const all = opened(config, { bars }, profile);
  const moves: boolean[] = [];
  const { vdev } = all;
  const zap = vdev.zapMappings.bind(vdev);
  vdev.zapMappings = function* () {
    moves.push(vdev.mayLend());
    yield* zap();
  };
  return { ...all, moves };
}

test('a write of PMCSR sets the state and the other bits; PME is neither shown nor taken', () => {
  const { fn, read, write } = rig();
  assert.equal(read(PMCSR, 2), 0x0008);
  assert.equal(read(0x42, 2) & 0xf800, 0);
  write(PMCSR, 2, 0x9f03);
  assert.deepEqual([fn.powerState.value, read(PMCSR, 2)], [3, 0x1e0b]);
  write(PMCSR, 1, 0);
  assert.deepEqual([fn.powerState.value, read(PMCSR, 2)], [0, 0x1e08]);
  // The high byte alone has other bits, but not the power state.
  write(PMCSR, 1, 3);
  write(PMCSR + 1, 1, 0);
  assert.deepEqual([fn.powerState.value, read(PMCSR, 2)], [3, 0x000b]);
});

test('which states revoke: all but D0, and with Linux from D3hot on', () => {
  for (const profile of [PROFILES.default, PROFILES['linux-7.3']]) {
    for (const state of [1, 2, 3] as const) {
      const { vdev, write, moves } = rig(profile);
      write(PMCSR, 2, state);
      const revokes = state === 3 || profile.revokeInD1D2;
      assert.equal(moves.length, revokes ? 1 : 0, `${profile.name} D${state}`);
      assert.equal(vdev.mayLend(), !revokes);
      write(PMCSR, 2, 0);
      assert.equal(vdev.mayLend(), true);
    }
  }
});

test('a physical function with virtual ones stays in D0, without a word', () => {
  const { fn, vdev, read, write } = rig();
  fn.virtfns.push(fn);
  write(PMCSR, 2, 3);
  assert.deepEqual([fn.powerState.value, read(PMCSR, 2) & 3, vdev.memoryEnabled()], [0, 0, true]);
});

test('a physical function that sleeps when it gets virtual ones can still be woken', () => {
  const { fn, vdev, write } = rig();
  write(PMCSR, 2, 3);
  fn.virtfns.push(fn);
  write(PMCSR, 2, 0);
  assert.deepEqual([fn.powerState.value, vdev.memoryEnabled()], [0, true]);
});

test('low power takes the memory, from D0, once; any access wakes what has no event', () => {
  const { fn, vdev, write, read } = rig();
  write(PMCSR, 2, 3);
  runner.run(vdev.enterLowPower(null));
  assert.deepEqual([vdev.lowPower.engaged.value, fn.powerState.value, vdev.mayLend()], [true, 0, false]);
  assert.throws(() => runner.run(vdev.enterLowPower(null)), { code: 'EINVAL' });
  read(0, 2);
  assert.equal(vdev.lowPower.engaged.value, true, 'it sleeps again');
});

test('with an event the first access ends low power, says so once, and gives the event back', () => {
  for (const profile of [PROFILES.default, PROFILES['linux-7.3']]) {
    const { vdev, read } = rig(profile);
    const event = new Counting();
    runner.run(vdev.enterLowPower(event));
    read(0, 2);
    assert.deepEqual([event.count, event.released, vdev.lowPower.engaged.value], [1, 1, false]);
    runner.run(resume(vdev));
    assert.equal(event.count, 1);
  }
});

test('an event that cannot be used, since the device sleeps, is given back; a close gives it back too', () => {
  const { vdev } = rig();
  const [first, second] = [new Counting(), new Counting()];
  runner.run(vdev.enterLowPower(first));
  assert.throws(() => runner.run(vdev.enterLowPower(second)), { code: 'EINVAL' });
  assert.deepEqual([first.released, second.released], [0, 1]);
  runner.run(vdev.close());
  assert.deepEqual([first.released, vdev.lowPower.engaged.value], [1, false]);
});

test('low power with a wake-up wants an eventfd and nothing else; any access then signals it, once', () => {
  const { vdev, fn } = rig();
  const event = new Counting();
  const caller = callerWith([event]);
  const enter = (fd: number, reserved = 0): unknown => {
    const arg = Buffer.alloc(16);
    arg.writeUInt32LE(16, 0);
    arg.writeUInt32LE(VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, 4);
    arg.writeInt32LE(fd, 8);
    arg.writeUInt32LE(reserved, 12);
    return runner.run(vdev.feature(new BufferMemory(arg), caller));
  };
  for (const [fd, reserved] of [
    [-1, 0],
    [100, 1],
  ]) {
    assert.throws(() => enter(fd, reserved), { code: 'EINVAL' });
    assert.equal(vdev.lowPower.engaged.value, false);
  }
  assert.equal(enter(100), 0);
  assert.deepEqual([vdev.lowPower.engaged.value, event.count], [true, 0]);
  runner.run(vdev.read(7, 0, new Uint8Array(4)));
  runner.run(vdev.read(7, 0, new Uint8Array(4)));
  assert.deepEqual([vdev.lowPower.engaged.value, event.count, fn.powerState.value], [false, 1, 0]);
});
