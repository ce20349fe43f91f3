/** A buffer, its importers, and the exporter's operations between them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_BIDIRECTIONAL, DmaBuf, type DmaBufAttachOps, type DmaBufOps } from '../../src/dma-buf/dma-buf.ts';
import { DmaFence } from '../../src/dma-buf/fence.ts';
import { DMA_RESV_USAGE_KERNEL } from '../../src/dma-buf/resv.ts';
import { SgTable } from '../../src/dma-buf/scatterlist.ts';
import { DONE, type Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

function rig(more: Partial<DmaBufOps> = {}) {
  const calls: string[] = [];
  const ops: DmaBufOps = {
    *map() {
      calls.push('map');
      return new SgTable([], []);
    },
    *unmap(_attachment, table) {
      calls.push('unmap');
      table.lifetime.end();
    },
    *release() {
      calls.push('release');
    },
    ...more,
  };
  const dmabuf = new DmaBuf({ expName: 'test', ops, sizeBytes: 4096, flags: 0, priv: null });
  const importer: DmaBufAttachOps = {
    allowPeer2Peer: true,
    *invalidateMappings() {
      calls.push('invalidate');
    },
  };
  const locked = <T>(body: () => Task<T>): T =>
    runner.run(
      (function* () {
        yield* dmabuf.resv.lock.lock();
        try {
          return yield* body();
        } finally {
          yield* dmabuf.resv.lock.unlock();
        }
      })(),
    );
  return { calls, dmabuf, importer, locked };
}

test('a buffer has bytes', () => {
  for (const sizeBytes of [0, -1]) {
    const ops: DmaBufOps = { map: () => null as never, unmap: () => DONE, release: () => DONE };
    assert.throws(() => new DmaBuf({ expName: '', ops, sizeBytes, flags: 0, priv: null }), { code: 'EINVAL' });
  }
});

test('attach, map, unmap, detach, put: each asks the exporter once, and the last put releases', () => {
  const { calls, dmabuf, importer, locked } = rig();
  const attachment = runner.run(dmabuf.attach(null, importer));
  assert.deepEqual([attachment.peer2peer, attachment.isDynamic, dmabuf.attachments.get().length], [true, true, 1]);
  const table = locked(() => dmabuf.map(attachment, DMA_BIDIRECTIONAL));
  assert.equal(attachment.mappings.get().size, 1);
  locked(() => dmabuf.unmap(attachment, table, DMA_BIDIRECTIONAL));
  runner.run(dmabuf.detach(attachment));
  assert.equal(dmabuf.attachments.get().length, 0);
  runner.run(dmabuf.put());
  assert.deepEqual(calls, ['map', 'unmap', 'release']);
});

test('every importer that can be told is told, in order; one that attached later too', () => {
  const { calls, dmabuf, importer, locked } = rig();
  runner.run(dmabuf.attach(null, importer));
  runner.run(dmabuf.attach(null, null));
  runner.run(dmabuf.attach(null, { allowPeer2Peer: false }));
  runner.run(dmabuf.attach(null, importer));
  locked(() => dmabuf.invalidateMappings());
  assert.deepEqual(calls, ['invalidate', 'invalidate']);
});

test('an importer that the exporter refuses is not listed', () => {
  const { dmabuf, importer } = rig({
    attach() {
      throw new RangeError('refused');
    },
  });
  assert.throws(() => runner.run(dmabuf.attach(null, importer)), RangeError);
  assert.equal(dmabuf.attachments.get().length, 0);
});

test('a static importer asks for no peer, and cannot be told', () => {
  const { dmabuf } = rig();
  const attachment = runner.run(dmabuf.attach(null, null));
  assert.deepEqual(
    [attachment.peer2peer, attachment.isDynamic, attachment.importerName],
    [false, false, 'the address space'],
  );
});

test('a static importer is pinned and waits for moves; one that can be told is not, and need not', () => {
  const { calls, dmabuf, importer, locked } = rig({
    *pin() {
      calls.push('pin');
    },
    *unpin() {
      calls.push('unpin');
    },
  });
  const fence = new DmaFence();
  locked(() => dmabuf.resv.addFence(fence, DMA_RESV_USAGE_KERNEL));
  const dynamic = runner.run(dmabuf.attach(null, importer));
  locked(() => dmabuf.map(dynamic, DMA_BIDIRECTIONAL));
  assert.deepEqual(calls.splice(0), ['map']);
  const fixed = runner.run(dmabuf.attach(null, null));
  const mapping = runner.start('a static map', dmabuf.mapUnlocked(fixed, DMA_BIDIRECTIONAL));
  runner.drain();
  assert.deepEqual([calls.splice(0), mapping.ended], [['pin', 'map'], false]);
  runner.run(fence.signal());
  runner.drain();
  assert.equal(mapping.ended, true);
});

test('what is pinned is unpinned: by an unmap, by a map that fails, and by an importer that can be told itself', () => {
  const { calls, dmabuf, importer, locked } = rig({
    *pin() {
      calls.push('pin');
    },
    *unpin() {
      calls.push('unpin');
    },
  });
  const fixed = runner.run(dmabuf.attach(null, null));
  const table = locked(() => dmabuf.map(fixed, DMA_BIDIRECTIONAL));
  locked(() => dmabuf.unmap(fixed, table, DMA_BIDIRECTIONAL));
  assert.deepEqual(calls.splice(0), ['pin', 'map', 'unmap', 'unpin']);
  const dynamic = runner.run(dmabuf.attach(null, importer));
  const told = locked(() => dmabuf.map(dynamic, DMA_BIDIRECTIONAL));
  locked(() => dmabuf.unmap(dynamic, told, DMA_BIDIRECTIONAL));
  locked(() => dmabuf.pin(dynamic));
  locked(() => dmabuf.unpin(dynamic));
  assert.deepEqual(calls.splice(0), ['map', 'unmap', 'pin', 'unpin']);
});

test('a map that fails leaves nothing pinned; an exporter that pins nothing is not asked to', () => {
  const failing = (more: Partial<DmaBufOps>) =>
    rig({
      map() {
        throw new RangeError('no room');
      },
      ...more,
    });
  const pins: string[] = [];
  const { dmabuf, locked } = failing({
    *pin() {
      pins.push('pin');
    },
    *unpin() {
      pins.push('unpin');
    },
  });
  const fixed = runner.run(dmabuf.attach(null, null));
  assert.throws(() => locked(() => dmabuf.map(fixed, DMA_BIDIRECTIONAL)), RangeError);
  assert.deepEqual(pins, ['pin', 'unpin']);
  const bare = failing({});
  const attachment = runner.run(bare.dmabuf.attach(null, null));
  assert.throws(() => bare.locked(() => bare.dmabuf.map(attachment, DMA_BIDIRECTIONAL)), RangeError);
  bare.locked(() => bare.dmabuf.pin(attachment));
  bare.locked(() => bare.dmabuf.unpin(attachment));
});

test('two detaches of one importer at once take nobody else off the list', () => {
  const { dmabuf, importer, locked } = rig();
  const [leaving, staying] = [0, 1].map(() => runner.run(dmabuf.attach(null, importer)));
  const detaches = locked(function* () {
    return [0, 1].map((i) => runner.start(`detach ${i}`, dmabuf.detach(leaving)));
  });
  for (const detach of detaches) assert.equal(detach.ended, false, 'both wait for the reservation');
  const { onFailure } = runner;
  runner.onFailure = () => {};
  runner.drain();
  runner.onFailure = onFailure;
  assert.deepEqual(dmabuf.attachments.get(), [staying]);
  assert.deepEqual(
    detaches.map(({ state }) => state),
    ['finished', 'failed'],
  );
});

test('a map that fails unpins what it has pinned, and nothing else', () => {
  const pins: string[] = [];
  const map = (): never => {
    throw new RangeError('no room');
  };
  const { dmabuf, importer, locked } = rig({
    map,
    *pin() {
      pins.push('pin');
    },
    *unpin() {
      pins.push('unpin');
    },
  });
  const dynamic = runner.run(dmabuf.attach(null, importer));
  assert.throws(() => locked(() => dmabuf.map(dynamic, DMA_BIDIRECTIONAL)), RangeError);
  assert.equal(pins.length, 0, 'an importer that can be told is not pinned by a map');
  const onlyPins = rig({
    map,
    *pin() {
      pins.push('pin');
    },
  });
  const fixed = runner.run(onlyPins.dmabuf.attach(null, null));
  assert.throws(() => onlyPins.locked(() => onlyPins.dmabuf.map(fixed, DMA_BIDIRECTIONAL)), RangeError);
  assert.deepEqual(pins, ['pin']);
});

test('the unlocked calls hold the reservation for themselves alone, also when they fail', () => {
  const { calls, dmabuf, importer } = rig();
  const { lock } = dmabuf.resv;
  const attachment = runner.run(dmabuf.attach(null, importer));
  const table = runner.run(dmabuf.mapUnlocked(attachment, DMA_BIDIRECTIONAL));
  assert.equal(lock.owner, null);
  runner.run(dmabuf.unmapUnlocked(attachment, table, DMA_BIDIRECTIONAL));
  assert.equal(lock.owner, null);
  assert.throws(() => runner.run(dmabuf.unmapUnlocked(attachment, table, DMA_BIDIRECTIONAL)), /I3/);
  assert.equal(lock.owner, null);
  assert.deepEqual(calls, ['map', 'unmap']);
});
