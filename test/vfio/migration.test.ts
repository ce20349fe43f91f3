/** The state machine of a migration, against the rules of linux/vfio.h. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  VFIO_DEVICE_STATE_ERROR as ERROR,
  VFIO_DEVICE_STATE_PRE_COPY as PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P as PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RESUMING as RESUMING,
  VFIO_DEVICE_STATE_RUNNING as RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P as RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP as STOP,
  VFIO_DEVICE_STATE_STOP_COPY as STOP_COPY,
  VFIO_DEVICE_STATE_NR,
} from '../../src/abi/vfio-feature.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { runner } from '../../src/task/runner.ts';
import { migrationPath } from '../../src/vfio/migration.ts';
import { PROFILES } from '../../src/vfio/profile.ts';
import { configOf, opened } from './rig.ts';

test('every pair of states: the way that linux/vfio.h describes, or none', () => {
  const ways: [from: number, to: number, way: number[] | null][] = [
    [RUNNING, STOP, [RUNNING_P2P, STOP]],
    [RUNNING, STOP_COPY, [RUNNING_P2P, STOP, STOP_COPY]],
    [RUNNING, RESUMING, [RUNNING_P2P, STOP, RESUMING]],
    [RUNNING, RUNNING_P2P, [RUNNING_P2P]],
    [RUNNING, PRE_COPY, [PRE_COPY]],
    [RUNNING, PRE_COPY_P2P, [RUNNING_P2P, PRE_COPY_P2P]],
    [STOP, RUNNING, [RUNNING_P2P, RUNNING]],
    [STOP, STOP_COPY, [STOP_COPY]],
    [STOP, RESUMING, [RESUMING]],
    [STOP, RUNNING_P2P, [RUNNING_P2P]],
    [STOP, PRE_COPY, [RUNNING_P2P, RUNNING, PRE_COPY]],
    [STOP, PRE_COPY_P2P, [RUNNING_P2P, PRE_COPY_P2P]],
    [STOP_COPY, STOP, [STOP]],
    [STOP_COPY, RUNNING, [STOP, RUNNING_P2P, RUNNING]],
    [STOP_COPY, RUNNING_P2P, [STOP, RUNNING_P2P]],
    [STOP_COPY, RESUMING, [STOP, RESUMING]],
    [STOP_COPY, PRE_COPY, null],
    [STOP_COPY, PRE_COPY_P2P, null],
    [RESUMING, STOP, [STOP]],
    [RESUMING, RUNNING, [STOP, RUNNING_P2P, RUNNING]],
    [RESUMING, STOP_COPY, [STOP, STOP_COPY]],
    [RESUMING, RUNNING_P2P, [STOP, RUNNING_P2P]],
    [RESUMING, PRE_COPY, [STOP, RUNNING_P2P, RUNNING, PRE_COPY]],
    [RESUMING, PRE_COPY_P2P, [STOP, RUNNING_P2P, PRE_COPY_P2P]],
    [RUNNING_P2P, RUNNING, [RUNNING]],
    [RUNNING_P2P, STOP, [STOP]],
    [RUNNING_P2P, STOP_COPY, [STOP, STOP_COPY]],
    [RUNNING_P2P, RESUMING, [STOP, RESUMING]],
    [RUNNING_P2P, PRE_COPY, [RUNNING, PRE_COPY]],
    [RUNNING_P2P, PRE_COPY_P2P, [PRE_COPY_P2P]],
    [PRE_COPY, RUNNING, [RUNNING]],
    [PRE_COPY, STOP, [RUNNING, RUNNING_P2P, STOP]],
    [PRE_COPY, STOP_COPY, [PRE_COPY_P2P, STOP_COPY]],
    [PRE_COPY, RESUMING, [RUNNING, RUNNING_P2P, STOP, RESUMING]],
    [PRE_COPY, RUNNING_P2P, [RUNNING, RUNNING_P2P]],
    [PRE_COPY, PRE_COPY_P2P, [PRE_COPY_P2P]],
    [PRE_COPY_P2P, RUNNING, [RUNNING_P2P, RUNNING]],
    [PRE_COPY_P2P, STOP, [RUNNING_P2P, STOP]],
    [PRE_COPY_P2P, STOP_COPY, [STOP_COPY]],
    [PRE_COPY_P2P, RESUMING, [RUNNING_P2P, STOP, RESUMING]],
    [PRE_COPY_P2P, RUNNING_P2P, [RUNNING_P2P]],
    [PRE_COPY_P2P, PRE_COPY, [PRE_COPY]],
  ];
  for (const [from, to, way] of ways) assert.deepEqual(migrationPath(from, to), way, `${from} to ${to}`);
  assert.equal(ways.length, 7 * 6, 'every pair of the seven states that are none of ERROR');
  for (let state = 1; state < VFIO_DEVICE_STATE_NR; state++) {
    assert.deepEqual(migrationPath(state, state), []);
    assert.equal(migrationPath(state, ERROR), null, 'nobody asks for ERROR');
    assert.equal(migrationPath(ERROR, state), null, 'only a reset leads out of ERROR');
    assert.equal(migrationPath(state, VFIO_DEVICE_STATE_NR), null);
  }
  assert.equal(migrationPath(ERROR, ERROR), null);
});

test('the device stops its DMA when it leaves the states that run, and goes on when it enters one', () => {
  const config = configOf([]);
  const bars = [
    new Bar(0, 'mem32', false, 4096, new MemoryTarget(new ArrayMemory(4096))),
    null,
    null,
    null,
    null,
    null,
  ];
  const { vdev, fn } = opened(config, { bars }, PROFILES.default);
  const moves: string[] = [];
  for (const name of ['quiesce', 'resume'] as const) {
    const real = fn[name].bind(fn);
    fn[name] = function* () {
      moves.push(name);
      yield* real();
    };
  }
  for (const [state, wanted] of [
    [PRE_COPY, []],
    [RUNNING, []],
    [RUNNING_P2P, ['quiesce']],
    [STOP, []],
    [STOP_COPY, []],
    [STOP, []],
    [RUNNING, ['resume']],
    [STOP_COPY, ['quiesce']],
    [RUNNING, ['resume']],
  ] as const) {
    runner.run(vdev.migration!.setState(state));
    assert.deepEqual(moves.splice(0), wanted, `to ${state}`);
  }
});
