/** The driver of an importing device, on the engine: the counterpart of lab/importer/. */
import { Errno } from '../../abi/errno.ts';
import { DMA_BIDIRECTIONAL, type DmaBuf, type DmaBufAttachment, type DmaBufAttachOps } from '../../dma-buf/dma-buf.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import type { SgTable } from '../../dma-buf/scatterlist.ts';
import { Lifetime } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import type { StepOf } from '../step.ts';

export interface ImporterMapping {
  importer: EngineImporter;
  table: SgTable;
}

/** One attachment and its mappings. */
export class EngineImporter {
  readonly dmabuf: DmaBuf;
  readonly mappings = new Set<ImporterMapping>();
  readonly callbacks: { live: number }[] = [];
  attachment!: DmaBufAttachment;
  /** Called at the end of the driver's callback with the reservation held. Null: nothing. */
  afterInvalidate: (() => Task<unknown>) | null = null;
  /** The lifetime of the driver's own state, its locks included: a touch after `detach` is a use of freed memory. */
  readonly lifetime = new Lifetime('importer');
  private readonly unmapsOnInvalidate: boolean;
  private readonly onInvalidate: (importer: EngineImporter) => void;

  /** Each invalidate callback calls `onInvalidate` with the reservation held; it must not wait. */
  constructor(dmabuf: DmaBuf, unmapsOnInvalidate: boolean, onInvalidate: (importer: EngineImporter) => void) {
    this.dmabuf = dmabuf;
    this.unmapsOnInvalidate = unmapsOnInvalidate;
    this.onInvalidate = onInvalidate;
  }

  ops(kind: NonNullable<StepOf<'attach'>['kind']>): DmaBufAttachOps | null {
    if (kind === 'static') return null;
    const allowPeer2Peer = kind !== 'no-p2p';
    if (kind === 'no-callback') return { allowPeer2Peer };
    return { allowPeer2Peer, invalidateMappings: () => this.invalidate() };
  }

  /** Called with the reservation held. */
  private *invalidate(): Task {
    this.lifetime.check('the invalidate callback');
    this.onInvalidate(this);
    this.callbacks.push({ live: this.mappings.size });
    if (this.unmapsOnInvalidate) {
      // The driver's own work under way may use the mapping until its fences signal.
      yield* this.dmabuf.resv.wait(DMA_RESV_USAGE_BOOKKEEP);
      for (const mapping of [...this.mappings]) yield* this.unmapLocked(mapping);
    }
    if (this.afterInvalidate !== null) yield* this.afterInvalidate();
  }

  *map(): Task<ImporterMapping> {
    yield* this.dmabuf.resv.lock.lock();
    try {
      return yield* this.mapLocked();
    } finally {
      yield* this.dmabuf.resv.lock.unlock();
    }
  }

  *mapLocked(): Task<ImporterMapping> {
    const table = yield* this.dmabuf.map(this.attachment, DMA_BIDIRECTIONAL);
    const mapping = { importer: this, table };
    this.mappings.add(mapping);
    return mapping;
  }

  *unmap(mapping: ImporterMapping): Task {
    yield* this.dmabuf.resv.lock.lock();
    try {
      yield* this.unmapLocked(mapping);
    } finally {
      yield* this.dmabuf.resv.lock.unlock();
    }
  }

  /** EINVAL where an invalidate callback has already unmapped it. */
  *unmapLocked(mapping: ImporterMapping): Task {
    if (!this.mappings.delete(mapping)) throw new Errno('EINVAL', 'the mapping is gone already');
    yield* this.dmabuf.unmap(this.attachment, mapping.table, DMA_BIDIRECTIONAL);
  }

  *detach(): Task {
    // Read under the reservation: an invalidate callback may come first.
    yield* this.dmabuf.resv.lock.lock();
    for (const mapping of [...this.mappings]) yield* this.unmapLocked(mapping);
    yield* this.dmabuf.resv.lock.unlock();
    yield* this.dmabuf.detach(this.attachment);
    // Ends only here: the callback may run until the detach.
    this.lifetime.end();
    yield* this.dmabuf.put();
  }

  *dispose(): Task {
    yield* this.detach();
  }
}
