/** Features 1, 2 and 9 of VFIO_DEVICE_FEATURE. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runner } from '../../src/task/runner.ts';
import { PROFILES, type ProfileName } from '../../src/vfio/profile.ts';
import { BufferMemory } from '../../src/vfio/user.ts';
import { callerWith, configOf, opened } from './rig.ts';

const [GET, SET] = [1 << 16, 1 << 17];
const [RUNNING, STOP_COPY, RESUMING] = [2, 3, 4];

function rig(profile: ProfileName = 'default') {
  const { vdev } = opened(configOf([]), {}, PROFILES[profile]);
  return (flags: number, payload: number[]): number[] => {
    const arg = Buffer.alloc(8 + 4 * payload.length);
    arg.writeUInt32LE(arg.length);
    arg.writeUInt32LE(flags, 4);
    for (const [i, value] of payload.entries()) arg.writeInt32LE(value, 8 + 4 * i);
    runner.run(vdev.feature(new BufferMemory(arg), callerWith([])));
    return payload.map((_, i) => arg.readInt32LE(8 + 4 * i));
  };
}

test('what of a migration there is, and how large its stream is at most', () => {
  const feature = rig();
  assert.deepEqual(feature(GET | 1, [0, 0]), [7, 0]);
  assert.ok(feature(GET | 9, [0, 0])[0] > 8192);
  for (const [which, payload] of [
    [1, [0]],
    [2, [0]],
    [9, [0]],
  ] as const) {
    assert.throws(() => feature(GET | which, [...payload]), { code: 'EINVAL' });
  }
});

test('states are set and got, without a descriptor; a way that there is not leaves the state', () => {
  const feature = rig();
  assert.deepEqual(feature(GET | 2, [0, 0]), [RUNNING, -1]);
  assert.deepEqual(feature(SET | 2, [STOP_COPY, 0]), [STOP_COPY, -1]);
  for (const state of [0, 6, 8, 99]) assert.throws(() => feature(SET | 2, [state, 0]), { code: 'EINVAL' });
  assert.deepEqual(feature(GET | 2, [0, 0]), [STOP_COPY, -1]);
  feature(SET | 2, [RESUMING, 0]);
  assert.throws(() => feature(SET | 2, [RUNNING, 0]), { code: 'EINVAL' });
  assert.deepEqual(feature(GET | 2, [0, 0]), [0, -1], 'nothing came to resume from: ERROR');
});

test('as on Linux without a driver of its own, a device has none of it', () => {
  const feature = rig('linux-7.3');
  for (const which of [1, 2, 9]) assert.throws(() => feature(GET | which, [0, 0]), { code: 'ENOTTY' });
});
