/**
 * The buffers that a device lends its peers: their state, and how they are taken back (vfio_pci_dmabuf.c). Another file
 * exports them (dmabuf-export.ts).
 *
 * Two locks decide whether a buffer may be used. A task that switches the device's memory on or off holds memory_lock
 * for write; it also guards the list of buffers. A task that maps, unmaps or flips `revoked` holds the buffer's
 * reservation. memory_lock comes first.
 *
 * A buffer is listed from its export until its release or the device's cleanup unlists it. Never both: cleanup takes a
 * reference with `tryGet`, which fails once the release is bound to run.
 */

import { Errno } from '../abi/errno.ts';
import type { DmaBuf, DmaBufAttachment, DmaBufOps, DmaDirection } from '../dma-buf/dma-buf.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../dma-buf/resv.ts';
import { cutSegments, mapPhysVec, type PhysVec, SgTable, unmapPhysVec } from '../dma-buf/scatterlist.ts';
import type { PciFunction } from '../pci/function.ts';
import { Cell } from '../task/cell.ts';
import { Lifetime } from '../task/lifetime.ts';
import type { RwSemaphore } from '../task/lock.ts';
import { DONE, type Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import { Refcount } from '../task/refcount.ts';
import { condResched } from '../task/runner.ts';
import type { BufferObserver, RevokeCause } from './buffer-observer.ts';
import type { Profile } from './profile.ts';
import type { Registration } from './registration.ts';

/** Importers that are told before other tasks have their turn. */
const TOLD_AT_ONCE = 128;

/** A device with buffers that may be taken back. */
export interface LendingDevice {
  /** The function itself. */
  readonly pdev: PciFunction;
  /** The behaviour where Linux is laxer. */
  readonly profile: Profile;
  /** Guards `dmabufs` and each buffer's `vdev`; held for write during a revoke or restore. */
  readonly memoryLock: RwSemaphore;
  /** Every exported buffer, until its release or the device's cleanup. */
  readonly dmabufs: Plain<Set<VfioPciDmaBuf>>;
  /** Whether peers may use the memory now. */
  mayLend(): boolean;
}

/** A device with the registration that each of its buffers holds a reference to. */
export interface RegisteredDevice extends LendingDevice {
  /** What keeps the device from being unregistered. */
  readonly registration: Registration;
  /** Null while nobody watches. */
  readonly bufferObserver: BufferObserver<VfioPciDmaBuf> | null;
  /** The mappings of its memory by processes. memory_lock guards the set. */
  readonly mappings: Set<ZappedMapping>;
  /** unmap_mapping_range: the next access through each mapping faults. memory_lock is held for write. */
  zapMappings(): Task;
}

/** A process's mapping of a device's memory. */
export interface ZappedMapping {
  /** The next access faults. memory_lock is held for write. */
  zap(): Task;
}

/** Hints for the writes of importers (PCI Express 6.0, 2.2.7.1). */
export interface TphHints {
  /** The 8-bit steering tag; null where it has none. */
  readonly steeringTag: number | null;
  /** The 16-bit extended steering tag; null where it has none. */
  readonly steeringTagExt: number | null;
  /** The processing hint, 0 to 3. */
  readonly ph: number;
}

/** The exporter's state of one buffer (struct vfio_pci_dma_buf). */
export class VfioPciDmaBuf {
  readonly physVec: readonly PhysVec[];
  readonly sizeBytes: number;
  /** The regions of its memory, one bit each. The ABI has only buffers of one region. */
  readonly regions: number;
  /** Null after the device's cleanup: the buffer must not touch the device any more. Guarded by memory_lock. */
  readonly vdev: Plain<RegisteredDevice | null>;
  readonly lifetime = new Lifetime('vfio_pci_dma_buf');
  /** Written under memory_lock and reservation; attach reads it without either. */
  readonly revoked: Cell<boolean>;
  /**
   * One, and one more for each mapping. Taken under the reservation. At zero nothing is mapped, and a revoke goes on.
   */
  readonly kref: Refcount;
  readonly observer: BufferObserver<VfioPciDmaBuf> | null;
  /**
   * `told`: the importers were told of a revoke that has not waited for them yet. `gone`: revoked for good. Guarded by
   * memory_lock.
   */
  private readonly phase = new Plain<'rest' | 'told' | 'gone'>('vfio_pci_dma_buf.phase', 'rest');
  /** The number of importers that were told last. Guarded by memory_lock. */
  told = 0;
  /** What VFIO_DEVICE_FEATURE_DMA_BUF_TPH set last. Guarded by the reservation. */
  tph: TphHints | null = null;
  dmabuf!: DmaBuf<VfioPciDmaBuf>;

  constructor(vdev: RegisteredDevice, regions: number, physVec: readonly PhysVec[], sizeBytes: number) {
    this.vdev = new Plain<RegisteredDevice | null>('vfio_pci_dma_buf.vdev', vdev);
    this.regions = regions;
    this.physVec = physVec;
    this.sizeBytes = sizeBytes;
    this.observer = vdev.bufferObserver;
    this.revoked = new Cell('vfio_pci_dma_buf.revoked', true, this.lifetime);
    this.kref = new Refcount('vfio_pci_dma_buf.kref', 1, this.lifetime);
  }

  get regionIndexes(): number[] {
    return [0, 1, 2, 3, 4, 5].filter((index) => (this.regions & (1 << index)) !== 0);
  }

  /** Whether it was revoked for good. memory_lock is held. */
  get isGone(): boolean {
    return this.phase.get() === 'gone';
  }

  /**
   * Takes the buffer back for a cause, or with null lends it again; does nothing if it is already so, or if the buffer
   * is revoked for good. memory_lock is held for write.
   */
  move(cause: RevokeCause | null, profile: Profile): Task {
    const phase = this.phase.get();
    if (phase === 'gone' || (phase === 'rest' && this.revoked.value === (cause !== null))) return DONE;
    return cause !== null ? this.revoke(cause) : this.restore(profile.tellAfterRestore);
  }

  /** Begins a revoke: tells the importers, and does not wait for them. `move` must follow. memory_lock is held. */
  *tell(cause: RevokeCause): Task {
    if (this.revoked.value) return;
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    yield* this.announce(cause);
    yield* lock.unlock();
    this.phase.set('told');
  }

  /**
   * Takes the buffer back for good. EBADFD where it is already so. Importers of a buffer that is revoked now are not
   * told again. memory_lock is held for write.
   */
  *revokeForGood(profile: Profile): Task {
    if (this.isGone) throw new Errno('EBADFD', 'the buffer is revoked for good already');
    yield* this.move('for good', profile);
    this.phase.set('gone');
  }

  /** Calls every importer's callback. The reservation is held. */
  private *tellImporters(): Task {
    this.told = this.dmabuf.attachments.get().length;
    yield* this.dmabuf.invalidateMappings();
  }

  private *announce(cause: RevokeCause): Task {
    yield* this.revoked.store(true);
    this.observer?.revoking(this, cause);
    yield* this.tellImporters();
  }

  private *revoke(cause: RevokeCause): Task {
    const resv = this.dmabuf.resv;
    yield* resv.lock.lock();
    if (this.phase.get() === 'told') this.phase.set('rest');
    else yield* this.announce(cause);
    yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
    yield* resv.lock.unlock();
    // The reference that stands for "lent"; the last unmap wakes us.
    yield* this.kref.put();
    yield* this.kref.waitForZero();
    // No map can succeed while `revoked` is set, so no other task takes a reference meanwhile.
    yield* this.kref.set(1);
    this.observer?.revoked(this);
  }

  /**
   * The invalidate callback tells importers of a restore too. It runs after `revoked` is cleared, so importers may map
   * in it. The exporter need not wait: nothing could be mapped since the revoke.
   */
  private *restore(tellAfter: boolean): Task {
    const resv = this.dmabuf.resv;
    yield* resv.lock.lock();
    if (tellAfter) {
      yield* this.revoked.store(false);
      this.observer?.restored(this);
      yield* this.tellImporters();
      yield* resv.lock.unlock();
      return;
    }
    yield* this.tellImporters();
    yield* resv.wait(DMA_RESV_USAGE_BOOKKEEP);
    yield* resv.lock.unlock();
    yield* resv.lock.lock();
    yield* this.revoked.store(false);
    this.observer?.restored(this);
    yield* resv.lock.unlock();
  }
}

export const vfioPciDmaBufOps: DmaBufOps = {
  *attach(attachment: DmaBufAttachment): Task {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    if (!attachment.peer2peer) {
      throw new Errno(
        'EOPNOTSUPP',
        `${attachment.importerName} cannot reach a peer's memory: it needs allow_peer2peer`,
      );
    }
    if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
    if (attachment.importerOps?.invalidateMappings === undefined) {
      throw new Errno(
        'EOPNOTSUPP',
        `${attachment.importerName} cannot be told to let go: it has no invalidate callback`,
      );
    }
    priv.observer?.attached(priv, attachment);
  },

  *detach(attachment: DmaBufAttachment): Task {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    priv.observer?.detached(priv, attachment);
  },

  *map(attachment: DmaBufAttachment, _direction: DmaDirection): Task<SgTable> {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
    const table = mapFor(attachment.dev, priv);
    yield* priv.kref.get();
    priv.observer?.mapped(priv, attachment);
    return table;
  },

  *unmap(attachment: DmaBufAttachment, table: SgTable, _direction: DmaDirection): Task {
    const priv = attachment.dmabuf.priv as VfioPciDmaBuf;
    unmapPhysVec(table);
    priv.observer?.unmapped(priv, attachment);
    yield* priv.kref.put();
  },

  *release(dmabuf: DmaBuf): Task {
    const priv = dmabuf.priv as VfioPciDmaBuf;
    // Cleanup sets vdev to null only while it holds a reference, so vdev cannot change during a release.
    const vdev = priv.vdev.get();
    if (vdev !== null) {
      yield* vdev.memoryLock.write();
      vdev.dmabufs.change().delete(priv);
      yield* vdev.memoryLock.releaseWrite();
      yield* vdev.registration.put();
    }
    priv.observer?.released(priv);
    priv.lifetime.end();
  },
};

/** Maps for an importer. An importer without a device gets host addresses and must enforce access itself. */
function mapFor(importer: PciFunction | null, { vdev, physVec, sizeBytes }: VfioPciDmaBuf): SgTable {
  if (importer === null) return new SgTable(cutSegments(physVec), []);
  const { pdev, profile } = vdev.get()!;
  return mapPhysVec(importer, pdev, physVec, sizeBytes, { oneRangeByIova: !profile.mapsSeveralRanges });
}

/**
 * vfio_pci_dma_buf_move: takes every buffer of the device back, or lends it again. memory_lock is held for write. A
 * revoke returns when no importer has a mapping and no fence is pending. Importers end that wait by unmapping, within
 * bounded time as dma-buf demands; owners of fences end it by signalling them.
 *
 * A revoke tells the importers of every buffer before it waits for any, so their times run side by side. Linux takes
 * one buffer after the other (Profile.tellAllFirst). It holds one reservation at a time.
 */
export function* dmaBufMove(vdev: LendingDevice, cause: RevokeCause | null): Task {
  vdev.memoryLock.assertHeldWrite();
  const live: VfioPciDmaBuf[] = [];
  for (const priv of vdev.dmabufs.get()) {
    // A buffer whose last reference is gone has no importers; its release waits for memory_lock to unlist it.
    if (yield* priv.dmabuf.tryGet()) live.push(priv);
  }
  let told = 0;
  if (cause !== null && vdev.profile.tellAllFirst) {
    // `move` tells the importers of the first one.
    for (const priv of live.slice(1)) {
      yield* priv.tell(cause);
      told = yield* giveWay(told, priv);
    }
  }
  for (const priv of live) {
    yield* priv.move(cause, vdev.profile);
    told = yield* giveWay(told, priv);
    // The release takes memory_lock, which is held here: if this was the last reference, it runs as a separate task.
    yield* priv.dmabuf.putDeferred();
  }
}

/** Lets other tasks run after so many importers were told: a user decides how many buffers and importers there are. */
function* giveWay(before: number, { told }: VfioPciDmaBuf): Task<number> {
  const more = before + told;
  if (more < TOLD_AT_ONCE) return more;
  yield* condResched();
  return 0;
}

/**
 * vfio_pci_dma_buf_cleanup: the device closes. Buffers that live on stay revoked and forget the device, so a later open
 * never revives them. Must run before the device is disabled: peers may write until it returns.
 */
export function* dmaBufCleanup(vdev: RegisteredDevice): Task {
  yield* vdev.memoryLock.write();
  yield* dmaBufMove(vdev, 'close');
  // No mapping faults in again: the device is closed, and its buffers are revoked.
  yield* vdev.zapMappings();
  for (const priv of [...vdev.dmabufs.get()]) {
    if (!(yield* priv.dmabuf.tryGet())) continue;
    vdev.dmabufs.change().delete(priv);
    priv.vdev.set(null);
    yield* vdev.registration.put();
    yield* priv.dmabuf.putDeferred();
  }
  yield* vdev.memoryLock.releaseWrite();
}
