/** The pair of functions that every trigger uses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { restoreMemory, revokeMemory } from '../../src/vfio/lending.ts';
import { configOf, opened } from './rig.ts';

test('mappings go before buffers, under the lock alone; a restore asks whether the memory may be lent', () => {
  const { vdev, write } = opened(configOf([]));
  const order: string[] = [];
  vdev.zapMappings = function* () {
    order.push('zap');
  };
  const buffers = vdev.dmabufs.get.bind(vdev.dmabufs);
  vdev.dmabufs.get = () => {
    order.push('move');
    return buffers();
  };
  const locked = (...tasks: ((owner: typeof vdev) => Task)[]): void =>
    runner.run(
      (function* () {
        yield* vdev.memoryLock.write();
        for (const task of tasks) yield* task(vdev);
        yield* vdev.memoryLock.releaseWrite();
      })(),
    );
  const revoke = (owner: typeof vdev): Task => revokeMemory(owner, 'reset');
  locked(revoke, restoreMemory);
  assert.deepEqual(order, ['zap', 'move', 'move']);
  write(4, 2, 0);
  order.length = 0;
  locked(restoreMemory);
  assert.deepEqual(order, []);
  assert.throws(() => runner.run(revoke(vdev)));
});
