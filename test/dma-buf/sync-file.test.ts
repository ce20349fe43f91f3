import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import { SyncFile } from '../../src/dma-buf/sync-file.ts';
import { runner } from '../../src/task/runner.ts';

test('a sync file is signalled when each of its fences is; one of none always is', () => {
  assert.equal(new SyncFile([]).isSignaled, true);
  const fences = [new DmaFence(), new DmaFence()];
  const file = new SyncFile(fences);
  runner.run(fences[0].signal());
  assert.equal(file.isSignaled, false);
  runner.run(fences[1].signal());
  assert.equal(file.isSignaled, true);
  runner.run(file.put());
});
