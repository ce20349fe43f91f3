/** Bugs in what is proposed for Linux (the profile `next`). */
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import type { Cell } from '../../task/cell.ts';
import { DONE, type Task } from '../../task/op.ts';
import { type RegisteredDevice, VfioPciDmaBuf, type ZappedMapping } from '../../vfio/dmabuf.ts';
import { BufferMapping } from '../../vfio/dmabuf-mmap.ts';
import { BusError } from '../../vfio/mmap.ts';
import { type Mutant, replace, replacePrivate } from './overlay.ts';

interface MappingInside extends ZappedMapping {
  readonly dmabuf: DmaBuf<VfioPciDmaBuf>;
  readonly present: Cell<boolean>;
  vdev: RegisteredDevice | null;
}

/** The fault with one check of `revoked`, before memory_lock. */
function* faultWithOneCheck(this: MappingInside): Task {
  const { resv, priv } = this.dmabuf;
  yield* resv.lock.lock();
  const vdev = (yield* priv.revoked.load()) ? null : priv.vdev.get();
  yield* resv.lock.unlock();
  if (vdev === null) throw new BusError('the buffer is revoked');
  yield* vdev.memoryLock.read();
  this.vdev = vdev;
  vdev.mappings.add(this);
  yield* this.present.store(true);
  yield* vdev.memoryLock.releaseRead();
}

export const PROPOSED_MUTANTS: readonly Mutant[] = [
  {
    name: 'N1-mapping-kept',
    summary: "a process's pages of a buffer stay mapped when memory goes off",
    invariant: 'race',
    scenario: 'revoke-vs-buffer-mmap',
    apply: () => replace(BufferMapping.prototype, 'zap', () => DONE),
  },
  {
    name: 'N2-revoked-read-once',
    summary: 'the fault on a buffer does not look at `revoked` again under memory_lock',
    invariant: 'race',
    scenario: 'revoke-vs-buffer-mmap',
    apply: () => replacePrivate(BufferMapping.prototype, 'fault', faultWithOneCheck),
  },
  {
    name: 'N3-restored-for-good',
    summary: 'a restore lends a buffer again that was revoked for good',
    invariant: 'I6',
    scenario: 'for-good-vs-memory',
    apply: () => replace(VfioPciDmaBuf.prototype, 'move', moveAsIfLent),
  },
];

const { move } = VfioPciDmaBuf.prototype;

/** A move that does not ask whether the buffer is gone. */
function moveAsIfLent(this: VfioPciDmaBuf, ...[cause, profile]: Parameters<typeof move>): Task {
  return cause === null && this.isGone ? restoreAnyway(this) : move.call(this, cause, profile);
}

function* restoreAnyway({ dmabuf, revoked }: VfioPciDmaBuf): Task {
  yield* dmabuf.resv.lock.lock();
  yield* revoked.store(false);
  yield* dmabuf.invalidateMappings();
  yield* dmabuf.resv.lock.unlock();
}
