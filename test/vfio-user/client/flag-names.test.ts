/** Names of flags, as linux/vfio.h has them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  deviceFlagNames,
  deviceStateName,
  irqFlagNames,
  migrationFlagNames,
  regionFlagNames,
} from '../../../src/vfio-user/client/flag-names.ts';

test('bits have their names in order; bits without a name are one number', () => {
  assert.deepEqual(deviceFlagNames(0), []);
  assert.deepEqual(deviceFlagNames(3), ['RESET', 'PCI']);
  assert.deepEqual(regionFlagNames(0xf), ['READ', 'WRITE', 'MMAP', 'CAPS']);
  assert.deepEqual(irqFlagNames(0xb), ['EVENTFD', 'MASKABLE', 'NORESIZE']);
  assert.deepEqual(migrationFlagNames(7), ['STOP_COPY', 'P2P', 'PRE_COPY']);
  assert.deepEqual(regionFlagNames(0x8000_0011), ['READ', '0x80000010']);
});

test('states of a migration; a number that is none of them stays a number', () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].map(deviceStateName), [
    'ERROR',
    'STOP',
    'RUNNING',
    'STOP_COPY',
    'RESUMING',
    'RUNNING_P2P',
    'PRE_COPY',
    'PRE_COPY_P2P',
    '8',
  ]);
});
