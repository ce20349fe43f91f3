import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import { runner } from '../../src/task/runner.ts';

test('a fence signals once and for all; a stub always has', () => {
  const fence = new DmaFence();
  assert.deepEqual([fence.isSignaled, runner.run(fence.testSignaled())], [false, false]);
  const waiting = runner.start('wait', fence.wait());
  runner.drain();
  assert.equal(waiting.ended, false);
  runner.run(fence.signal());
  runner.drain();
  assert.equal(waiting.ended, true);
  runner.run(fence.signal());
  runner.run(fence.wait());
  assert.deepEqual([fence.isSignaled, runner.run(fence.testSignaled())], [true, true]);
  assert.equal(DmaFence.stub().isSignaled, true);
});

test('fences have timelines of their own unless they are given one', () => {
  const [one, two] = [new DmaFence(), new DmaFence()];
  assert.notEqual(one.context, two.context);
  assert.equal(new DmaFence('later', one.context, 2).context, one.context);
});
