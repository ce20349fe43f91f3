import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DeviceSet } from '../../src/vfio/device-set.ts';

test('a set starts empty, and two sets have locks of one class', () => {
  const [one, two] = [new DeviceSet<number>(), new DeviceSet<number>()];
  one.devices.push(1);
  assert.deepEqual([one.devices, two.devices], [[1], []]);
  assert.notEqual(one.lock, two.lock);
});
