/** Reservations: which fences a reader, a writer and a revoke wait for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import {
  DMA_RESV_USAGE_BOOKKEEP,
  DMA_RESV_USAGE_KERNEL,
  DMA_RESV_USAGE_READ,
  DMA_RESV_USAGE_WRITE,
  DmaResv,
  type DmaResvUsage,
  resvUsageRw,
} from '../../src/dma-buf/resv.ts';
import { runner } from '../../src/task/runner.ts';

const USAGES = [DMA_RESV_USAGE_KERNEL, DMA_RESV_USAGE_WRITE, DMA_RESV_USAGE_READ, DMA_RESV_USAGE_BOOKKEEP] as const;

function add(resv: DmaResv, ...fences: [DmaFence, DmaResvUsage][]): void {
  runner.run(
    (function* () {
      yield* resv.lock.lock();
      for (const [fence, usage] of fences) yield* resv.addFence(fence, usage);
      yield* resv.lock.unlock();
    })(),
  );
}

test('a usage includes all those before it', () => {
  const resv = new DmaResv();
  for (const usage of USAGES) assert.deepEqual([resv.fences(usage), resv.testSignaled(usage)], [[], true]);
  const fences = USAGES.map(() => new DmaFence());
  add(resv, ...fences.map((fence, i): [DmaFence, DmaResvUsage] => [fence, USAGES[i]]));
  for (const usage of USAGES) assert.deepEqual(resv.fences(usage), fences.slice(0, usage + 1));
  assert.deepEqual([resvUsageRw(false), resvUsageRw(true)], [DMA_RESV_USAGE_WRITE, DMA_RESV_USAGE_READ]);
});

test('a wait ends with the last fence of its usage, and not before', () => {
  const resv = new DmaResv();
  const [writer, reader, other] = [new DmaFence(), new DmaFence(), new DmaFence()];
  add(resv, [writer, DMA_RESV_USAGE_WRITE], [reader, DMA_RESV_USAGE_READ], [other, DMA_RESV_USAGE_BOOKKEEP]);
  const waits = USAGES.map((usage) => runner.start(`usage ${usage}`, resv.wait(usage)));
  const ended = (): boolean[] => {
    runner.drain();
    return waits.map((wait) => wait.ended);
  };
  assert.deepEqual(ended(), [true, false, false, false]);
  runner.run(other.signal());
  assert.deepEqual(ended(), [true, false, false, false]);
  runner.run(writer.signal());
  assert.deepEqual(ended(), [true, true, false, false]);
  assert.equal(resv.testSignaled(DMA_RESV_USAGE_WRITE), true);
  assert.equal(resv.testSignaled(DMA_RESV_USAGE_READ), false);
  runner.run(reader.signal());
  assert.deepEqual(ended(), [true, true, true, true]);
});

test('a later fence of a timeline replaces an earlier one of the same usage or a weaker one; signalled ones go', () => {
  const resv = new DmaResv();
  const first = new DmaFence('first');
  const stronger = new DmaFence('stronger', first.context, 2);
  add(resv, [first, DMA_RESV_USAGE_WRITE], [stronger, DMA_RESV_USAGE_READ]);
  assert.deepEqual(resv.fences(DMA_RESV_USAGE_BOOKKEEP), [first, stronger]);
  const last = new DmaFence('last', first.context, 3);
  add(resv, [last, DMA_RESV_USAGE_WRITE]);
  assert.deepEqual(resv.fences(DMA_RESV_USAGE_BOOKKEEP), [last]);
  runner.run(last.signal());
  const next = new DmaFence();
  add(resv, [next, DMA_RESV_USAGE_READ]);
  assert.deepEqual(resv.fences(DMA_RESV_USAGE_BOOKKEEP), [next]);
});

test('nobody adds a fence without the lock', () => {
  assert.throws(() => runner.run(new DmaResv().addFence(new DmaFence(), DMA_RESV_USAGE_READ)));
});
