/** Revokes and restores that leave a step out, or take it too early. */
import { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { DMA_RESV_USAGE_BOOKKEEP, DmaResv } from '../../dma-buf/resv.ts';
import { DONE, type Task } from '../../task/op.ts';
import type { Refcount } from '../../task/refcount.ts';
import type { RevokeCause } from '../../vfio/buffer-observer.ts';
import { VfioPciDmaBuf, vfioPciDmaBufOps } from '../../vfio/dmabuf.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

interface BufferInside {
  dmabuf: DmaBuf;
  kref: Refcount;
  revoked: VfioPciDmaBuf['revoked'];
}

export const REVOKE_MUTANTS: readonly Mutant[] = [
  {
    name: 'L3-no-callback-accepted',
    summary: 'an importer that cannot be told to let go is accepted: the revoke waits for ever',
    invariant: 'I7',
    scenario: 'revoke-vs-no-callback',
    apply: () => replace(vfioPciDmaBufOps, 'attach', () => DONE),
  },
  {
    name: 'L5-no-fence-wait',
    summary: 'no wait for the fences after the importers were told: the memory goes while a peer still does DMA',
    invariant: 'I2',
    scenario: 'revoke-vs-fence',
    apply: () => replace(DmaResv.prototype, 'wait', () => DONE),
  },
  {
    name: 'L5-no-drain',
    summary: 'no wait for the last unmap after the importers were told',
    invariant: 'I2',
    scenario: 'revoke-vs-late-unmap',
    apply: () =>
      replacePrivate<BufferInside>(VfioPciDmaBuf.prototype, 'revoke', function* () {
        const { resv } = this.dmabuf;
        yield* resv.lock.lock();
        yield* this.revoked.store(true);
        yield* this.dmabuf.invalidateMappings();
        yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
        yield* resv.lock.unlock();
      }),
  },
  {
    name: 'L5-no-invalidate',
    summary: 'importers are not told: the revoke waits for unmaps that nobody knows about',
    invariant: 'I7',
    scenario: 'revoke-vs-dma',
    apply: () => replace(DmaBuf.prototype, 'invalidateMappings', () => DONE),
  },
  {
    name: 'told-one-by-one',
    summary: 'the importers of a buffer are told when those of the buffers before it are gone, which may wait for them',
    invariant: 'I7',
    scenario: 'two-buffers-told',
    apply: () => replace(VfioPciDmaBuf.prototype, 'tell', () => DONE),
  },
  {
    name: 'told-and-not-awaited',
    summary: 'the importers of the second buffer are told, and the revoke returns before they let go',
    invariant: 'I2',
    scenario: 'two-buffers-told',
    apply: () =>
      replacePrivate<BufferInside>(VfioPciDmaBuf.prototype, 'tell', function* () {
        yield* this.dmabuf.resv.lock.lock();
        yield* this.revoked.store(true);
        yield* this.dmabuf.invalidateMappings();
        yield* this.dmabuf.resv.lock.unlock();
      }),
  },
  {
    name: 'L6-drains-twice',
    summary: 'a buffer that is revoked already is revoked again, and its count was not set up anew',
    invariant: 'I3',
    scenario: 'revoke-vs-close',
    apply: () =>
      replacePrivate<BufferInside>(VfioPciDmaBuf.prototype, 'move', function* (cause: RevokeCause | null) {
        yield* this.dmabuf.resv.lock.lock();
        yield* this.revoked.store(cause !== null);
        yield* this.dmabuf.invalidateMappings();
        yield* this.dmabuf.resv.lock.unlock();
        if (cause === null) return;
        yield* this.kref.put();
        yield* this.kref.waitForZero();
      }),
  },
  {
    name: 'told-before-it-is-so',
    summary:
      'importers are told before the buffer is usable again: a map from the callback fails, and no other call comes',
    invariant: 'I6',
    scenario: 'revoke-vs-map',
    apply: () => {
      const { restore } = VfioPciDmaBuf.prototype as unknown as { restore(tellAfter: boolean): Task };
      return replacePrivate<object>(VfioPciDmaBuf.prototype, 'restore', function () {
        return restore.call(this, false);
      });
    },
  },
];
