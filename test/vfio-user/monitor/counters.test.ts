import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VFIO_USER_REGION_READ, VFIO_USER_X_PCI_HOT_RESET } from '../../../src/abi/vfio-user.ts';
import { BUCKETS_S, Counters } from '../../../src/vfio-user/monitor/counters.ts';

test('a second thread reads what the first one counts, device by device', () => {
  const writer = new Counters(2);
  const reader = new Counters(2, writer.memory);
  writer.exchange(1, VFIO_USER_REGION_READ, 0, 16, 20, 3e-6);
  writer.exchange(1, VFIO_USER_REGION_READ, 22, 16, 0, 100);
  writer.exchange(1, VFIO_USER_X_PCI_HOT_RESET, 0, 1, 1, 1);
  writer.exchange(1, 63, 95, 1, 0, 1);
  writer.exchange(1, 60_000, 95, 1, 0, 1);
  writer.count(1, 'exports', 3);
  writer.revoke(1, 'FLR', 0.2);
  const { commands, errnos, exports, revokes } = reader.read(1);
  const read = commands.find(({ command }) => command === 'REGION_READ')!;
  assert.deepEqual([read.errors, read.bytesIn, read.bytesOut, read.latency.count], [1, 32, 20, 2]);
  assert.equal(read.latency.buckets[BUCKETS_S.indexOf(5e-6)], 1);
  assert.equal(read.latency.buckets.at(-1), 1, 'beyond every bound');
  assert.deepEqual(
    commands.map(({ command, latency }) => [command, latency.count]),
    [
      ['REGION_READ', 2],
      ['X_PCI_HOT_RESET', 1],
      ['other', 2],
    ],
  );
  assert.deepEqual(
    [...errnos],
    [
      [22, 1],
      [95, 2],
    ],
  );
  assert.equal(exports, 3);
  assert.deepEqual(
    revokes.map(({ cause, duration }) => [cause, duration.count]),
    [['FLR', 1]],
  );
  const other = reader.read(0);
  assert.deepEqual([other.commands, other.exports, other.revokes], [[], 0, []]);
});
