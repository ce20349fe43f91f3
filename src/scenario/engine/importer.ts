/** What the driver of an importing device does, on the engine: the counterpart of lab/importer/. */
import { Errno } from '../../abi/errno.ts';
import { DMA_BIDIRECTIONAL, type DmaBuf, type DmaBufAttachment, type DmaBufAttachOps } from '../../dma-buf/dma-buf.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import {
  DMA_RESV_USAGE_BOOKKEEP,
  DMA_RESV_USAGE_KERNEL,
  DMA_RESV_USAGE_READ,
  DMA_RESV_USAGE_WRITE,
} from '../../dma-buf/resv.ts';
import type { SgTable } from '../../dma-buf/scatterlist.ts';
import { Lifetime, type Task } from '../../task/op.ts';
import { outcome } from '../backend.ts';
import type { Step, StepOf } from '../step.ts';
import { type EngineWorld, named } from './backend.ts';

const USAGES = {
  kernel: DMA_RESV_USAGE_KERNEL,
  write: DMA_RESV_USAGE_WRITE,
  read: DMA_RESV_USAGE_READ,
  bookkeep: DMA_RESV_USAGE_BOOKKEEP,
} as const;

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
  /** What the driver does at the end of its callback, the reservation held: nothing by default. */
  afterInvalidate: (() => Task<unknown>) | null = null;
  /** The driver's own state, its locks included: whoever touches it after `detach` touches freed memory. */
  readonly lifetime = new Lifetime('importer');
  private readonly unmapsOnInvalidate: boolean;
  private readonly onInvalidate: (importer: EngineImporter) => void;

  /** `onInvalidate` is called by each invalidate callback, with the reservation held; it must not wait. */
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
      // Its own work that is under way may use the mapping until its fences signal.
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

  /** EINVAL where an invalidate callback was faster. */
  *unmapLocked(mapping: ImporterMapping): Task {
    if (!this.mappings.delete(mapping)) throw new Errno('EINVAL', 'the mapping is gone already');
    yield* this.dmabuf.unmap(this.attachment, mapping.table, DMA_BIDIRECTIONAL);
  }

  *detach(): Task {
    // Looked at under the reservation: an invalidate callback may be faster.
    yield* this.dmabuf.resv.lock.lock();
    for (const mapping of [...this.mappings]) yield* this.unmapLocked(mapping);
    yield* this.dmabuf.resv.lock.unlock();
    yield* this.dmabuf.detach(this.attachment);
    // Only now: until it is detached, the callback may run.
    this.lifetime.end();
    yield* this.dmabuf.put();
  }

  *dispose(): Task {
    yield* this.detach();
  }
}

export function* importerStep(world: EngineWorld, step: Step): Task<unknown> {
  switch (step.op) {
    case 'attach':
      return yield* attach(world, step);
    case 'map': {
      const mapping = yield* named(world.importers, step.importer, 'importer').map();
      world.mappings.set(step.as, mapping);
      return mapping.table.segments.map((segment) => segment.sizeBytes);
    }
    case 'unmap': {
      const mapping = named(world.mappings, step.map, 'mapping');
      world.mappings.delete(step.map);
      if (mapping.importer.lifetime.ended) throw new Errno('EBADF', `the importer of ${step.map} is detached`);
      return yield* mapping.importer.unmap(mapping);
    }
    case 'detach': {
      const importer = named(world.importers, step.importer, 'importer');
      world.importers.delete(step.importer);
      return yield* importer.detach();
    }
    case 'callback-order':
      return world.callbackOrder.splice(0).filter((name) => world.importers.has(name));
    case 'callbacks': {
      const importer = named(world.importers, step.importer, 'importer');
      return importer.callbacks.splice(0).map((callback) => callback.live);
    }
    case 'pin':
    case 'unpin':
    case 'add-fence':
      return yield* lockedStep(world, step);
    case 'dma-write':
    case 'dma-read':
      return yield* dmaStep(world, step);
    default:
      throw new Error(`no step ${step.op} of an importer`);
  }
}

function* attach(world: EngineWorld, step: StepOf<'attach'>): Task<null> {
  const dmabuf = yield* world.getDmabuf(step.fd);
  const importer = new EngineImporter(dmabuf, step.onInvalidate !== 'keep', (told) => {
    world.callbackOrder.push(step.as);
    world.onInvalidate(told);
  });
  if (step.onInvalidate === 'remap') importer.afterInvalidate = () => outcome(importer.mapLocked());
  const fn = world.pciFunction(step.device);
  fn.dmaBits = step.dmaBits ?? 64;
  try {
    importer.attachment = yield* dmabuf.attach(fn, importer.ops(step.kind ?? 'dynamic'));
  } catch (error) {
    importer.lifetime.end();
    yield* dmabuf.put();
    throw error;
  }
  world.importers.set(step.as, importer);
  return null;
}

/** Steps that the importer's driver takes with the reservation held. */
function* lockedStep(world: EngineWorld, step: StepOf<'pin' | 'unpin' | 'add-fence'>): Task<null> {
  const { dmabuf, attachment } = named(world.importers, step.importer, 'importer');
  yield* dmabuf.resv.lock.lock();
  try {
    if (step.op === 'pin') yield* dmabuf.pin(attachment);
    else if (step.op === 'unpin') yield* dmabuf.unpin(attachment);
    else {
      const fence = new DmaFence(step.as);
      yield* dmabuf.resv.addFence(fence, USAGES[step.usage]);
      world.fences.set(step.as, fence);
    }
  } finally {
    yield* dmabuf.resv.lock.unlock();
  }
  return null;
}

function* dmaStep(world: EngineWorld, step: StepOf<'dma-write' | 'dma-read'>): Task<unknown> {
  const { importer, table } = named(world.mappings, step.map, 'mapping');
  table.lifetime.check('DMA');
  const dev = importer.attachment.dev!;
  const length = step.op === 'dma-write' ? step.bytes.length / 2 : step.length;
  const bytes = step.op === 'dma-write' ? Buffer.from(step.bytes, 'hex') : Buffer.alloc(length);
  let at = Number(step.offset);
  let done = 0;
  for (const segment of table.segments) {
    if (at >= segment.sizeBytes) {
      at -= segment.sizeBytes;
      continue;
    }
    const part = bytes.subarray(done, done + Math.min(bytes.length - done, segment.sizeBytes - at));
    const status = yield* step.op === 'dma-write'
      ? dev.dmaWrite(segment.address + at, part)
      : dev.dmaRead(segment.address + at, part);
    if (status !== 'ok') throw new Errno('EIO', `DMA by ${dev.name}: ${status}`);
    done += part.length;
    at = 0;
    if (done === bytes.length) break;
  }
  return step.op === 'dma-write' ? done : bytes.toString('hex');
}
