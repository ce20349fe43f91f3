/** The operations that a dma-buf's descriptor serves by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaBuf, type DmaBufOps } from '../../src/dma-buf/dma-buf.ts';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import * as ioctl from '../../src/dma-buf/ioctl.ts';
import { DMA_RESV_USAGE_READ, DMA_RESV_USAGE_WRITE, type DmaResvUsage } from '../../src/dma-buf/resv.ts';
import { SyncFile } from '../../src/dma-buf/sync-file.ts';
import { DONE } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

function buffer(): DmaBuf {
  const unused = () => {
    throw new Error('nobody maps it');
  };
  const ops: DmaBufOps = { map: unused, unmap: unused, release: () => DONE };
  return new DmaBuf({ expName: 'test', ops, sizeBytes: 8192, flags: 0, priv: null });
}

function withFence(dmabuf: DmaBuf, usage: DmaResvUsage): DmaFence {
  const fence = new DmaFence();
  runner.run(
    (function* () {
      yield* dmabuf.resv.lock.lock();
      yield* dmabuf.resv.addFence(fence, usage);
      yield* dmabuf.resv.lock.unlock();
    })(),
  );
  return fence;
}

test('DMA_BUF_IOCTL_SYNC: all combinations of its bits, and only START waits', () => {
  const dmabuf = buffer();
  for (let flags = 0; flags < 16; flags++) {
    const isRight = (flags & 3) !== 0 && flags < 8;
    if (isRight) runner.run(ioctl.dmaBufSync(dmabuf, flags));
    else assert.throws(() => runner.run(ioctl.dmaBufSync(dmabuf, flags)), { code: 'EINVAL' });
  }
  const fence = withFence(dmabuf, DMA_RESV_USAGE_READ);
  runner.run(ioctl.dmaBufSync(dmabuf, 1));
  runner.run(ioctl.dmaBufSync(dmabuf, 6));
  const writing = runner.start('write', ioctl.dmaBufSync(dmabuf, 2));
  runner.drain();
  assert.equal(writing.ended, false);
  runner.run(fence.signal());
  runner.drain();
  assert.equal(writing.ended, true);
});

test('names have at most 31 bytes, and show in link and fdinfo', () => {
  const dmabuf = buffer();
  assert.equal(ioctl.dmaBufFileCall(dmabuf, 'link'), '/dmabuf:');
  assert.equal('name' in ioctl.dmaBufFdinfo(dmabuf), false);
  assert.throws(() => ioctl.dmaBufSetName(dmabuf, 'x'.repeat(32)), { code: 'EINVAL' });
  assert.throws(() => ioctl.dmaBufSetName(dmabuf, 'é'.repeat(16)), { code: 'EINVAL' });
  ioctl.dmaBufSetName(dmabuf, 'é'.repeat(15));
  assert.equal(ioctl.dmaBufFileCall(dmabuf, 'link'), `/dmabuf:${'é'.repeat(15)}`);
  assert.deepEqual(ioctl.dmaBufFdinfo(dmabuf), { size: '8192', count: '1', exp_name: 'test', name: 'é'.repeat(15) });
});

test('sync files: flags, a stub where nothing is pending, and the fences that the flags ask for', () => {
  const dmabuf = buffer();
  for (const flags of [0, 4, 8]) {
    assert.throws(() => runner.run(ioctl.dmaBufExportSyncFile(dmabuf, flags)), { code: 'EINVAL' });
    assert.throws(() => runner.run(ioctl.dmaBufImportSyncFile(dmabuf, flags, new SyncFile([]))), { code: 'EINVAL' });
  }
  assert.equal(runner.run(ioctl.dmaBufExportSyncFile(dmabuf, 3)).isSignaled, true);
  const writer = withFence(dmabuf, DMA_RESV_USAGE_WRITE);
  const reader = withFence(dmabuf, DMA_RESV_USAGE_READ);
  assert.deepEqual(runner.run(ioctl.dmaBufExportSyncFile(dmabuf, 1)).fences, [writer]);
  assert.deepEqual(runner.run(ioctl.dmaBufExportSyncFile(dmabuf, 2)).fences, [writer, reader]);
  assert.throws(() => runner.run(ioctl.dmaBufImportSyncFile(dmabuf, 1, dmabuf)), { code: 'EINVAL' });
});

test('poll: readable without writers, writable without users; imported fences count', () => {
  const dmabuf = buffer();
  assert.deepEqual(ioctl.dmaBufPoll(dmabuf), { readable: true, writable: true });
  const fence = new DmaFence();
  runner.run(ioctl.dmaBufImportSyncFile(dmabuf, 1, new SyncFile([fence])));
  assert.deepEqual(ioctl.dmaBufPoll(dmabuf), { readable: true, writable: false });
  runner.run(ioctl.dmaBufImportSyncFile(dmabuf, 2, new SyncFile([new DmaFence('other', fence.context, 2)])));
  assert.deepEqual(ioctl.dmaBufPoll(dmabuf), { readable: false, writable: false });
});

test('what a dma-buf does not do has the errno of a file that does not', () => {
  const dmabuf = buffer();
  for (const call of ['read', 'write', 'ftruncate'] as const) {
    assert.throws(() => ioctl.dmaBufFileCall(dmabuf, call), { code: 'EINVAL' });
  }
  assert.throws(() => ioctl.dmaBufFileCall(dmabuf, 'reopen'), { code: 'ENXIO' });
  assert.throws(() => ioctl.dmaBufFileCall(dmabuf, 'ioctl'), { code: 'ENOTTY' });
  assert.deepEqual(ioctl.dmaBufFileCall(dmabuf, 'stat'), { size: 8192, mode: 0o600 });
});

test('lseek tells the size and goes back to 0, and does nothing else', () => {
  const dmabuf = { sizeBytes: 8192 };
  const [SET, CURRENT, END] = [0, 1, 2];
  assert.equal(ioctl.dmaBufLseek(dmabuf, 0, END), 8192);
  assert.equal(ioctl.dmaBufLseek(dmabuf, 0, SET), 0);
  for (const [offset, whence] of [
    [1, SET],
    [-1, END],
    [0, CURRENT],
    [4096, CURRENT],
    [0, 3],
  ]) {
    assert.throws(() => ioctl.dmaBufLseek(dmabuf, offset, whence), { code: 'EINVAL' }, `${offset}, ${whence}`);
  }
});

test('a sync file of a buffer without users has one fence, which is signalled', () => {
  const dmabuf = buffer();
  const { fences } = runner.run(ioctl.dmaBufExportSyncFile(dmabuf, 3));
  assert.deepEqual(
    fences.map(({ isSignaled }) => isSignaled),
    [true],
  );
});
