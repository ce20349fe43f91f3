import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counters } from '../../src/vfio-user/monitor/counters.ts';
import { Rates } from '../../src/web/rates.ts';

test('rates and percentiles are those since the last look', () => {
  const counters = new Counters(1);
  const counts = () => new Map([['lender', counters.read(0)]]);
  const rates = new Rates();
  for (let i = 0; i < 1000; i++) counters.exchange(0, 9, 0, 16, 4, 0.5);
  rates.sample(1000, counts());
  for (let i = 0; i < 99; i++) counters.exchange(0, 9, 0, 16, 4, 8e-6);
  counters.exchange(0, 9, 22, 16, 0, 0.4);
  const { devices, commands } = rates.sample(3000, counts());
  assert.deepEqual(devices, [
    { device: 'lender', messagesPerSecond: 50, errorsPerSecond: 0.5, bytesPerSecond: (100 * 16 + 99 * 4) / 2 },
  ]);
  const [read] = commands;
  assert.deepEqual([read.command, read.perSecond, read.total, read.errors], ['REGION_READ', 50, 1100, 1]);
  assert.equal(Math.round(read.p50Us!), 10, 'the bound of the bucket of 8 microseconds');
  assert.equal(Math.round(read.p99Us!), 10);
  assert.equal(rates.sample(4000, counts()).commands[0].p99Us, null, 'nothing came');
});
