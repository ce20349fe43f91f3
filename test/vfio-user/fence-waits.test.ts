/** Many WAITs for many fences: the work must not grow with the product of the two. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_BUF_SOCKET_POLLIN, DMA_BUF_SOCKET_POLLOUT } from '../../src/abi/dma-buf-socket.ts';
import { DmaBuf } from '../../src/dma-buf/dma-buf.ts';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import { DMA_RESV_USAGE_READ, DMA_RESV_USAGE_WRITE, type DmaResvUsage } from '../../src/dma-buf/resv.ts';
import { SgTable } from '../../src/dma-buf/scatterlist.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import type { TaskHandle } from '../../src/task/task-handle.ts';
import { type FenceWait, FenceWaits, giveUp } from '../../src/vfio-user/dma-buf/fence-waits.ts';
import { EventLoop } from '../../src/vfio-user/wire/event-loop.ts';

const POLLIN = DMA_BUF_SOCKET_POLLIN;
const POLLOUT = DMA_BUF_SOCKET_POLLOUT;

class Buffer {
  readonly loop = new EventLoop();
  readonly dmabuf = new DmaBuf({
    expName: 'test',
    sizeBytes: 4096,
    flags: 0,
    priv: null,
    ops: {
      *map() {
        return new SgTable([], []);
      },
      *unmap() {},
      *release() {},
    },
  });
  readonly waits = new FenceWaits(this.loop, this.dmabuf as DmaBuf);
  readonly listed = new Set<FenceWait>();
  /** How often a fence was checked or waited for. */
  looks = 0;

  constructor() {
    const { resv } = this.dmabuf;
    const { fences } = resv;
    resv.fences = (usage) => {
      const found = fences.call(resv, usage);
      this.looks += found.length;
      return found;
    };
  }

  addFence(usage: DmaResvUsage): DmaFence {
    const fence = new DmaFence();
    const { resv } = this.dmabuf;
    const add = function* (): Task {
      yield* resv.lock.lock();
      yield* resv.addFence(fence, usage);
      yield* resv.lock.unlock();
    };
    runner.run(add());
    return fence;
  }

  wait(events: number, timeoutMs: number | null = null): TaskHandle<number> {
    return runner.start('WAIT', this.waits.wait(events, timeoutMs, this.listed));
  }
}

test('a thousand WAITs for a thousand fences look at each fence a few times, not a thousand times', () => {
  const buffer = new Buffer();
  const fences = Array.from({ length: 1000 }, () => buffer.addFence(DMA_RESV_USAGE_WRITE));
  const handles = Array.from({ length: 1000 }, () => buffer.wait(POLLIN));
  for (const fence of fences) {
    assert.ok(handles.every((handle) => !handle.ended));
    runner.run(fence.signal());
  }
  runner.drain();
  assert.ok(handles.every((handle) => handle.result === POLLIN));
  assert.ok(buffer.looks <= 10 * fences.length, `${buffer.looks} looks`);
  assert.equal(buffer.listed.size, 0);
});

test('a WAIT ends when all its events are there, when its time is over, or when it is given up', () => {
  const buffer = new Buffer();
  assert.equal(buffer.wait(POLLIN | POLLOUT).result, POLLIN | POLLOUT);
  const reader = buffer.addFence(DMA_RESV_USAGE_READ);
  assert.equal(buffer.wait(POLLIN | POLLOUT, 0).result, POLLIN);
  assert.equal(buffer.wait(POLLIN).result, POLLIN);
  const both = buffer.wait(POLLIN | POLLOUT);
  const timed = buffer.wait(POLLOUT, 1);
  const givenUp = buffer.wait(POLLOUT);
  giveUp([[...buffer.listed].at(-1)!]);
  runner.drain();
  assert.equal(givenUp.result, 0);
  while (!timed.ended) buffer.loop.turn(1);
  assert.equal(timed.result, 0);
  assert.ok(!both.ended);
  const writer = buffer.addFence(DMA_RESV_USAGE_WRITE);
  runner.run(reader.signal());
  runner.drain();
  assert.ok(!both.ended, 'a writer came before the reader was done');
  runner.run(writer.signal());
  runner.drain();
  assert.equal(both.result, POLLIN | POLLOUT);
});
