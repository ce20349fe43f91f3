/** The envelope of VFIO_DEVICE_FEATURE, before any feature handler runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runner } from '../../src/task/runner.ts';
import { BufferMemory } from '../../src/vfio/user.ts';
import { callerWith, configOf, opened } from './rig.ts';

const [GET, SET, PROBE] = [1 << 16, 1 << 17, 1 << 18];

function ask(flags: number, argsz: number, bytes = argsz): unknown {
  const { vdev } = opened(configOf([]));
  const arg = Buffer.alloc(bytes);
  if (bytes >= 8) {
    arg.writeUInt32LE(argsz);
    arg.writeUInt32LE(flags >>> 0, 4);
  }
  return runner.run(vdev.feature(new BufferMemory(arg), callerWith([])));
}

test('a header that is short, unreadable or makes no sense', () => {
  assert.throws(() => ask(GET | 11, 4, 7), { code: 'EFAULT' });
  assert.throws(() => ask(GET | 11, 7, 8), { code: 'EINVAL' });
  for (const bit of [19, 20, 30, 31]) assert.throws(() => ask(GET | 11 | (1 << bit), 24), { code: 'EINVAL' });
  assert.throws(() => ask(GET | SET | 11, 24), { code: 'EINVAL' });
});

test('features that there are not are ENOTTY, probed or asked', () => {
  for (const feature of [10, 13, 0xffff]) {
    for (const how of [GET, SET, PROBE, PROBE | GET]) assert.throws(() => ask(how | feature, 24), { code: 'ENOTTY' });
  }
});

test('a probe of what there is gives 0, and nothing is done', () => {
  for (const how of [PROBE, PROBE | GET]) assert.equal(ask(how | 11, 8), 0);
  assert.throws(() => ask(PROBE | SET | 11, 8), { code: 'EINVAL' });
  for (const feature of [3, 4, 5]) assert.equal(ask(PROBE | SET | feature, 8), 0);
});

test('the payload is the bytes behind the header', () => {
  // LOW_POWER_ENTRY_WITH_WAKEUP: a descriptor and a reserved field.
  assert.throws(() => ask(SET | 4, 15), { code: 'EINVAL' });
  assert.throws(() => ask(SET | 4, 16, 12), { code: 'EFAULT' });
});
