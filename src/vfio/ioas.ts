/**
 * An importer as iommufd is one: dma-bufs of vfio devices mapped into an I/O address space, for whatever devices are
 * attached to it (IOMMU_IOAS_MAP_FILE on a dma-buf). A revoke takes the translations out of every domain before it
 * returns, for good: the area keeps its place until the user unmaps it, and lends nothing any more.
 */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { DmaBuf, DmaBufAttachment } from '../dma-buf/dma-buf.ts';
import type { PhysVec } from '../dma-buf/scatterlist.ts';
import { type DmaAddressSpace, IOMMU_READ, IOMMU_WRITE } from '../pci/dma.ts';
import { Cell } from '../task/cell.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import { VfioPciDmaBuf } from './dmabuf.ts';

/** Outside the reservation: mapping takes both, a revoke the reservation alone. */
const IOAS_LOCK_CLASS: LockClass = { name: 'io_pagetable.iova_rwsem' };

/** One MAP_FILE. */
class Area {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly dmabuf: DmaBuf;
  /** What the area lends, in order of IOVA; null once it was revoked. Guarded by the reservation. */
  physical: readonly PhysVec[] | null;
  attachment!: DmaBufAttachment;

  constructor(iova: number, sizeBytes: number, dmabuf: DmaBuf, physical: readonly PhysVec[]) {
    this.iova = iova;
    this.sizeBytes = sizeBytes;
    this.dmabuf = dmabuf;
    this.physical = physical;
  }
}

export interface IoasOptions {
  /** Take dma-bufs of several ranges too, one range behind the other. iommufd refuses them. */
  severalRanges?: boolean;
}

export class Ioas {
  private readonly lock = new Mutex(IOAS_LOCK_CLASS);
  /** By IOVA; changed under `lock` and the area's reservation. */
  private readonly areas = new Plain('io_pagetable.area_itree', new Map<number, Area>());
  /** Changed under `lock`; revokes look at it without. A domain is listed before anything is mapped into it. */
  private readonly domains = new Cell<readonly DmaAddressSpace[]>('io_pagetable.domains', []);
  private readonly severalRanges: boolean;

  constructor({ severalRanges = false }: IoasOptions = {}) {
    this.severalRanges = severalRanges;
  }

  /** Attaches a domain: everything that is mapped now, and later, becomes reachable through it. */
  *attachDomain(domain: DmaAddressSpace): Task {
    yield* this.lock.lock();
    yield* this.domains.store([...this.domains.value, domain]);
    for (const area of this.areas.get().values()) {
      yield* area.dmabuf.resv.lock.lock();
      if (area.physical !== null) mapInto(domain, area);
      yield* area.dmabuf.resv.lock.unlock();
    }
    yield* this.lock.unlock();
  }

  /**
   * IOMMU_IOAS_MAP_FILE with a fixed IOVA. EINVAL for a length of 0, an unaligned start or IOVA, or a slice that
   * leaves the buffer; EOPNOTSUPP for a buffer that is not vfio's or has several ranges; ENODEV while it is revoked;
   * EEXIST where the IOVA is taken.
   */
  *mapFile(dmabuf: DmaBuf, start: bigint, length: bigint, iova: bigint): Task {
    const page = BigInt(PAGE_SIZE);
    if (length === 0n || length % page !== 0n || start % page !== 0n || iova % page !== 0n) {
      throw new Errno('EINVAL', `MAP_FILE start ${start}, length ${length}, IOVA ${iova}: whole pages only`);
    }
    if (start + length > BigInt(dmabuf.sizeBytes) || iova + length > 1n << 52n) {
      throw new Errno('EINVAL', `MAP_FILE ${start}+${length} of a dma-buf of ${dmabuf.sizeBytes} bytes`);
    }
    yield* this.lock.lock();
    try {
      if (this.overlaps(Number(iova), Number(length))) throw new Errno('EEXIST', `IOVA ${iova} is taken`);
      yield* dmabuf.get();
      try {
        yield* this.mapArea(dmabuf, Number(start), Number(length), Number(iova));
      } catch (error) {
        yield* dmabuf.put();
        throw error;
      }
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** IOMMU_IOAS_UNMAP of whole areas; returns the bytes unmapped. ENOENT where there are none, or one is cut. */
  *unmap(iova: bigint, length: bigint): Task<number> {
    yield* this.lock.lock();
    try {
      const end = iova + length;
      const hit = [...this.areas.get().values()].filter(
        (area) => BigInt(area.iova) < end && BigInt(area.iova + area.sizeBytes) > iova,
      );
      const cut = hit.some((area) => BigInt(area.iova) < iova || BigInt(area.iova + area.sizeBytes) > end);
      if (hit.length === 0 || cut) throw new Errno('ENOENT', `no whole area lies at IOVA ${iova}+${length}`);
      for (const area of hit) yield* this.unmapArea(area);
      return hit.reduce((sum, area) => sum + area.sizeBytes, 0);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** Closes the address space: nothing stays mapped or attached. */
  *destroy(): Task {
    yield* this.lock.lock();
    for (const area of [...this.areas.get().values()]) yield* this.unmapArea(area);
    yield* this.domains.store([]);
    yield* this.lock.unlock();
  }

  private overlaps(iova: number, sizeBytes: number): boolean {
    for (const area of this.areas.get().values()) {
      if (area.iova < iova + sizeBytes && area.iova + area.sizeBytes > iova) return true;
    }
    return false;
  }

  private *mapArea(dmabuf: DmaBuf, start: number, length: number, iova: number): Task {
    const priv = dmabuf.priv;
    if (!(priv instanceof VfioPciDmaBuf))
      throw new Errno('EOPNOTSUPP', 'only dma-bufs of vfio devices can be imported');
    const area = new Area(iova, length, dmabuf, cut(priv.physVec, start, length));
    area.attachment = yield* dmabuf.attach(null, {
      allowPeer2Peer: true,
      invalidateMappings: () => this.invalidate(area),
    });
    try {
      yield* dmabuf.resv.lock.lock();
      try {
        if (priv.physVec.length !== 1 && !this.severalRanges) {
          throw new Errno('EOPNOTSUPP', 'a dma-buf of several ranges cannot be imported');
        }
        if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked');
        for (const domain of this.domains.value) mapInto(domain, area);
        this.areas.change().set(iova, area);
      } finally {
        yield* dmabuf.resv.lock.unlock();
      }
    } catch (error) {
      yield* dmabuf.detach(area.attachment);
      throw error;
    }
  }

  /** Called by the exporter with the reservation held. A restore comes here too, and brings nothing back. */
  private *invalidate(area: Area): Task {
    if (area.physical === null || !(area.dmabuf.priv as VfioPciDmaBuf).revoked.value) return;
    area.physical = null;
    for (const domain of yield* this.domains.load()) domain.unmap(area.iova, area.sizeBytes);
  }

  private *unmapArea(area: Area): Task {
    yield* area.dmabuf.resv.lock.lock();
    if (area.physical !== null) for (const domain of this.domains.value) domain.unmap(area.iova, area.sizeBytes);
    area.physical = null;
    this.areas.change().delete(area.iova);
    yield* area.dmabuf.resv.lock.unlock();
    yield* area.dmabuf.detach(area.attachment);
    yield* area.dmabuf.put();
  }
}

/** The part of `ranges`, laid end to end, that starts `start` bytes in. */
function cut(ranges: readonly PhysVec[], start: number, length: number): PhysVec[] {
  const parts: PhysVec[] = [];
  let at = 0;
  for (const { address, sizeBytes } of ranges) {
    const from = Math.max(start, at);
    const to = Math.min(start + length, at + sizeBytes);
    if (from < to) parts.push({ address: address + from - at, sizeBytes: to - from });
    at += sizeBytes;
  }
  return parts;
}

/** All of the area or nothing: EEXIST where somebody else mapped into the domain. */
function mapInto(domain: DmaAddressSpace, area: Area): void {
  let iova = area.iova;
  try {
    for (const { address, sizeBytes } of area.physical!) {
      domain.map(iova, sizeBytes, { kind: 'mmio', address }, IOMMU_READ | IOMMU_WRITE);
      iova += sizeBytes;
    }
  } catch (error) {
    domain.unmap(area.iova, iova - area.iova);
    throw error;
  }
}
