/**
 * One import of a dma-buf into I/O address spaces, as iommufd makes it (struct iopt_pages): one attachment, shared by
 * all areas that show parts of it. IOMMU_IOAS_COPY adds areas, also in other address spaces.
 */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { DmaBuf, DmaBufAttachment } from '../dma-buf/dma-buf.ts';
import { type PhysVec, slicePhysVec } from '../dma-buf/scatterlist.ts';
import type { DmaAddressSpace } from '../pci/dma.ts';
import type { Cell } from '../task/cell.ts';
import { mayLackMemory } from '../task/faults.ts';
import type { Task } from '../task/op.ts';
import { Refcount } from '../task/refcount.ts';
import { VfioPciDmaBuf } from './dmabuf.ts';

const U64_END = 1n << 64n;

/** A part of an address space that shows a part of an import (struct iopt_area). */
export class IoptArea {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly pages: IoptPages;
  /** The byte of the import at which the area begins. */
  readonly startByte: number;
  /** IOMMU_READ, IOMMU_WRITE. */
  readonly prot: number;
  /** The domains of its address space, kept up to date by the owner. */
  readonly domains: Cell<readonly DmaAddressSpace[]>;

  constructor(
    place: { iova: number; sizeBytes: number; prot: number },
    pages: IoptPages,
    startByte: number,
    domains: Cell<readonly DmaAddressSpace[]>,
  ) {
    this.iova = place.iova;
    this.sizeBytes = place.sizeBytes;
    this.prot = place.prot;
    this.pages = pages;
    this.startByte = startByte;
    this.domains = domains;
  }

  get end(): number {
    return this.iova + this.sizeBytes;
  }

  /** Maps all of the area or nothing: EEXIST where the domain has another mapping there. The reservation is held. */
  mapInto(domain: DmaAddressSpace): void {
    let iova = this.iova;
    try {
      for (const { address, sizeBytes } of this.pages.slice(this.startByte, this.sizeBytes)) {
        domain.map(iova, sizeBytes, { kind: 'mmio', address }, this.prot);
        iova += sizeBytes;
      }
    } catch (error) {
      domain.unmap(this.iova, iova - this.iova);
      throw error;
    }
  }

  unmapFrom(domain: DmaAddressSpace): void {
    if (!this.pages.isRevoked) domain.unmap(this.iova, this.sizeBytes);
  }
}

/** The rules of an address space, beside iommufd's. */
export interface IoasOptions {
  /** Accept dma-bufs of several ranges, mapped one after another. iommufd refuses them. */
  severalRanges?: boolean;
  /**
   * If set, an unmap that would cut an area has already unmapped those before it, as in iommufd. Else it changes
   * nothing.
   */
  unmapStopsHalfway?: boolean;
  /** The owner of the address space, for people who watch. */
  importerName?: string;
}

export class IoptPages {
  readonly dmabuf: DmaBuf;
  /** The areas that show a part of it, in any address space. Guarded by the reservation. */
  readonly areas = new Set<IoptArea>();
  private readonly kref = new Refcount('iopt_pages.kref');
  /** The byte of the buffer that is byte 0 here: the first of its page. */
  private readonly firstByte: number;
  /** The memory of the buffer; null for good after a revoke. Guarded by the reservation. */
  private physical: readonly PhysVec[] | null = null;
  private attachment!: DmaBufAttachment;

  private readonly importerName: string | undefined;

  private constructor(dmabuf: DmaBuf, firstByte: number, importerName: string | undefined) {
    this.importerName = importerName;
    this.dmabuf = dmabuf;
    this.firstByte = firstByte;
  }

  /**
   * iopt_alloc_dmabuf_pages. `buffer` gives a reference to the dma-buf, which the import then owns; it is called only
   * after the slice itself was checked. EINVAL for a length of 0 or a slice that leaves the buffer, EOVERFLOW past 64
   * bits, ENODEV while it is revoked. EOPNOTSUPP for a buffer that is not vfio's, or of several ranges unless allowed.
   */
  static *import(
    buffer: Task<DmaBuf>,
    start: bigint,
    length: bigint,
    { severalRanges = false, importerName }: IoasOptions,
  ): Task<IoptPages> {
    if (length === 0n) throw new Errno('EINVAL', 'MAP_FILE of no bytes');
    if (start + length > U64_END) throw new Errno('EOVERFLOW', `MAP_FILE ${start}+${length} ends past 64 bits`);
    const dmabuf = yield* buffer;
    try {
      if (start + length > BigInt(dmabuf.sizeBytes)) {
        throw new Errno('EINVAL', `MAP_FILE ${start}+${length} of a dma-buf of ${dmabuf.sizeBytes} bytes`);
      }
      mayLackMemory('iopt_pages');
      const pages = new IoptPages(dmabuf, Number(start) - (Number(start) % PAGE_SIZE), importerName);
      yield* pages.attach(severalRanges);
      return pages;
    } catch (error) {
      yield* dmabuf.put();
      throw error;
    }
  }

  get isRevoked(): boolean {
    return this.physical === null;
  }

  /** Takes a reference, for an area or for a task that makes areas. */
  get(): Task {
    return this.kref.get();
  }

  /** Drops a reference; the last put detaches and drops the buffer. The reservation is not held. */
  *put(): Task {
    if (!(yield* this.kref.put())) return;
    yield* this.dmabuf.detach(this.attachment);
    yield* this.dmabuf.put();
  }

  /** The host addresses of its bytes, in order; empty after a revoke. The reservation is held. */
  slice(startByte: number, length: number): PhysVec[] {
    return this.physical === null ? [] : slicePhysVec(this.physical, this.firstByte + startByte, length);
  }

  /** iopt_map_dmabuf. */
  private *attach(severalRanges: boolean): Task {
    const { dmabuf, importerName } = this;
    this.attachment = yield* dmabuf.attach(null, {
      ...(importerName === undefined ? {} : { importerName }),
      allowPeer2Peer: true,
      invalidateMappings: () => this.invalidate(),
    });
    let isMapped = false;
    yield* dmabuf.resv.lock.lock();
    try {
      const priv = dmabuf.priv;
      if (!(priv instanceof VfioPciDmaBuf)) {
        throw new Errno('EOPNOTSUPP', 'only dma-bufs of vfio devices can be imported');
      }
      if (yield* priv.revoked.load()) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
      if (priv.physVec.length !== 1 && !severalRanges) {
        throw new Errno('EOPNOTSUPP', 'a dma-buf of several ranges cannot be imported');
      }
      this.physical = priv.physVec;
      isMapped = true;
      priv.observer?.mapped(priv, this.attachment);
    } finally {
      yield* dmabuf.resv.lock.unlock();
      // A revoke may have come by now: the import is then valid, of a buffer that lends nothing.
      if (!isMapped) yield* dmabuf.detach(this.attachment);
    }
  }

  /**
   * iopt_revoke_notify, called by the exporter with the reservation held: takes the translations of every area out of
   * every domain. A restore comes here too, but does not bring the translations back.
   */
  private *invalidate(): Task {
    const priv = this.dmabuf.priv as VfioPciDmaBuf;
    if (this.physical === null || !priv.revoked.value) return;
    for (const area of this.areas) for (const domain of yield* area.domains.load()) area.unmapFrom(domain);
    this.physical = null;
    priv.observer?.unmapped(priv, this.attachment);
  }
}
