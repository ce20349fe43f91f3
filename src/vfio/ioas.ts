/**
 * An importer with iommufd's rules: maps dma-bufs of vfio devices into an I/O address space, for all devices that are
 * attached to it (IOMMU_IOAS_MAP_FILE on a dma-buf). A revoke removes the translations from every domain before it
 * returns. They never come back: the area keeps its place until the user unmaps it, but translates nothing.
 */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { DmaBuf } from '../dma-buf/dma-buf.ts';
import { type DmaAddressSpace, IOMMU_READ, IOMMU_WRITE, type IovaRange } from '../pci/dma.ts';
import { Cell } from '../task/cell.ts';
import { mayLackMemory } from '../task/faults.ts';
import { type LockClass, Mutex } from '../task/lock.ts';
import type { Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import { type IoasOptions, IoptArea, IoptPages } from './iopt-pages.ts';

/** Outside the reservation: a map takes both, a revoke only the reservation. */
const IOAS_LOCK_CLASS: LockClass = { name: 'io_pagetable.iova_rwsem' };
const READ_WRITE = IOMMU_READ | IOMMU_WRITE;
const U64_MAX = (1n << 64n) - 1n;
/** Above every address that an IOMMU translates. Addresses are plain numbers inside. */
const IOVA_END = 2 ** 52;

/** A part of an import that is to be mapped into an address space. */
interface Slice {
  pages: IoptPages;
  startByte: number;
  sizeBytes: number;
}

export class Ioas {
  private readonly lock = new Mutex(IOAS_LOCK_CLASS);
  /** In order of IOVA, without overlaps; changed under `lock`. */
  private readonly areas = new Plain<IoptArea[]>('io_pagetable.area_itree', []);
  /** Changed under `lock`; revokes read it without the lock. A domain is listed before anything is mapped into it. */
  private readonly domains = new Cell<readonly DmaAddressSpace[]>('io_pagetable.domains', []);
  private readonly options: IoasOptions;

  constructor(options: IoasOptions = {}) {
    this.options = options;
  }

  /**
   * Attaches a domain: all present and later mappings become reachable through it. EADDRINUSE where an area lies at
   * addresses that the domain cannot translate, or is not made of whole pages.
   */
  *attachDomain(domain: DmaAddressSpace): Task {
    yield* this.lock.lock();
    try {
      this.demandFits(domain);
      yield* this.domains.store([...this.domains.value, domain]);
      for (const [i, area] of this.areas.get().entries()) {
        const { lock } = area.pages.dmabuf.resv;
        yield* lock.lock();
        try {
          area.mapInto(domain);
        } catch (error) {
          for (const earlier of this.areas.get().slice(0, i)) earlier.unmapFrom(domain);
          yield* this.domains.store(this.domains.value.filter((other) => other !== domain));
          throw error;
        } finally {
          yield* lock.unlock();
        }
      }
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** Detaches a domain: no mapping of this address space stays reachable through it. */
  *detachDomain(domain: DmaAddressSpace): Task {
    yield* this.lock.lock();
    for (const area of this.areas.get()) {
      const { lock } = area.pages.dmabuf.resv;
      yield* lock.lock();
      area.unmapFrom(domain);
      yield* lock.unlock();
    }
    yield* this.domains.store(this.domains.value.filter((other) => other !== domain));
    yield* this.lock.unlock();
  }

  /**
   * IOMMU_IOAS_MAP_FILE with a fixed IOVA. `buffer` gives a reference to the dma-buf. First the errors of
   * IoptPages.import. Then EINVAL for a length of partial pages (which an address space without domains accepts) or an
   * IOVA that a domain does not translate; EEXIST where the IOVA is taken.
   */
  *mapFile(buffer: Task<DmaBuf>, start: bigint, length: bigint, iova: bigint, prot = READ_WRITE): Task {
    demandBelow(U64_MAX, iova, length);
    const pages = yield* IoptPages.import(buffer, start, length, this.options);
    try {
      yield* this.insert([{ pages, startByte: Number(start) % PAGE_SIZE, sizeBytes: Number(length) }], iova, prot);
    } finally {
      yield* pages.put();
    }
  }

  /**
   * IOMMU_IOAS_COPY: maps a run of another address space's areas, or a part of it, here too. The areas share the import
   * and its revoke. ENOENT where a byte of the run is not mapped; else as `mapFile`.
   */
  *copy(source: Ioas, sourceIova: bigint, length: bigint, iova: bigint, prot = READ_WRITE): Task {
    demandBelow(U64_MAX, length, sourceIova, iova);
    const slices = yield* source.slices(sourceIova, length);
    try {
      yield* this.insert(slices, iova, prot);
    } finally {
      for (const { pages } of slices) yield* pages.put();
    }
  }

  /**
   * IOMMU_IOAS_UNMAP of whole areas; returns the bytes unmapped. ENOENT where there are none, or one would be cut. IOVA
   * 0 with a length of 2^64 - 1 unmaps everything, and accepts an empty address space.
   */
  *unmap(iova: bigint, length: bigint): Task<number> {
    const all = iova === 0n && length === U64_MAX;
    if (!all) {
      demandBelow(U64_MAX, iova, length);
      demandRange(iova, length);
    }
    yield* this.lock.lock();
    try {
      const end = Number(iova + length);
      const areas = this.areas.get();
      const first = this.firstEndingAfter(Number(iova));
      let last = first;
      while (last < areas.length && areas[last].iova < end) last++;
      const hit = areas.slice(first, last);
      const cut = hit.findIndex((area) => area.iova < Number(iova) || area.end > end);
      const whole = cut < 0 ? hit : this.options.unmapStopsHalfway ? hit.slice(0, cut) : [];
      for (const area of whole) yield* this.removeArea(area);
      if (cut >= 0) throw new Errno('ENOENT', `the unmap of IOVA ${iova}+${length} would cut an area`);
      if (hit.length === 0 && !all) throw new Errno('ENOENT', `nothing is mapped at IOVA ${iova}+${length}`);
      return whole.reduce((sum, area) => sum + area.sizeBytes, 0);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** IOMMU_DESTROY: unmaps everything and detaches from all buffers. EBUSY while a domain is attached. */
  *destroy(): Task {
    yield* this.lock.lock();
    try {
      if (this.domains.value.length > 0) throw new Errno('EBUSY', 'devices are attached to the address space');
      for (const area of [...this.areas.get()]) yield* this.removeArea(area);
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** iopt_get_pages: the parts of imports at a run of addresses, each with a reference to its import. */
  private *slices(iova: bigint, length: bigint): Task<Slice[]> {
    demandRange(iova, length);
    yield* this.lock.lock();
    try {
      const end = Number(iova + length);
      const areas = this.areas.get();
      const slices: Slice[] = [];
      let at = Number(iova);
      for (let i = this.firstEndingAfter(at); at < end && areas[i]?.iova <= at; i++) {
        const { pages, startByte, iova: start } = areas[i];
        const stop = Math.min(end, areas[i].end);
        slices.push({ pages, startByte: startByte + at - start, sizeBytes: stop - at });
        at = stop;
      }
      if (at < end) throw new Errno('ENOENT', `not every byte is mapped at IOVA ${iova}+${length}`);
      for (const { pages } of slices) yield* pages.get();
      return slices;
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** iopt_map_pages: maps all slices, one after another, or none. */
  private *insert(slices: readonly Slice[], iova: bigint, prot: number): Task {
    yield* this.lock.lock();
    try {
      this.demandPlace(slices, iova);
      let at = Number(iova);
      const inserted: IoptArea[] = [];
      try {
        for (const { pages, startByte, sizeBytes } of slices) {
          mayLackMemory('iopt_area');
          const area = new IoptArea({ iova: at, sizeBytes, prot }, pages, startByte, this.domains);
          yield* this.insertArea(area);
          inserted.push(area);
          at += sizeBytes;
        }
      } catch (error) {
        for (const area of inserted) yield* this.removeArea(area);
        throw error;
      }
    } finally {
      yield* this.lock.unlock();
    }
  }

  /** Checks in Linux's order. `lock` is held. */
  private demandPlace(slices: readonly Slice[], iova: bigint): void {
    const length = slices.reduce((sum, slice) => sum + slice.sizeBytes, 0);
    const alignment = this.domains.value.length === 0 ? 1 : PAGE_SIZE;
    const isAligned = (bytes: number) => bytes % alignment === 0;
    const at = Number(iova);
    const place = `IOVA 0x${iova.toString(16)}, ${length} bytes`;
    if (!isAligned(length) || Number(iova % BigInt(alignment)) !== 0) {
      throw new Errno('EINVAL', `${place}: whole pages only`);
    }
    if (iova + BigInt(length) > U64_MAX + 1n) throw new Errno('EOVERFLOW', `${place}: ends past 64 bits`);
    const isReserved = this.domains.value.some((domain) => reservedHits(domain, at, at + length));
    if (isReserved || at + length > IOVA_END) throw new Errno('EINVAL', `${place}: cannot be translated`);
    const next = this.areas.get()[this.firstEndingAfter(at)];
    if (next !== undefined && next.iova < at + length) throw new Errno('EEXIST', `${place}: taken`);
    if (!slices.every((slice) => isAligned(slice.startByte % PAGE_SIZE))) {
      throw new Errno('EINVAL', `${place}: the slice does not begin with a page`);
    }
  }

  private demandFits(domain: DmaAddressSpace): void {
    for (const { iova, sizeBytes, startByte, end } of this.areas.get()) {
      const isAligned = [iova, sizeBytes, startByte].every((bytes) => bytes % PAGE_SIZE === 0);
      if (!isAligned || reservedHits(domain, iova, end)) {
        throw new Errno('EADDRINUSE', `the area at IOVA 0x${iova.toString(16)} cannot be translated by the domain`);
      }
    }
  }

  private *insertArea(area: IoptArea): Task {
    const { pages } = area;
    yield* pages.dmabuf.resv.lock.lock();
    const done: DmaAddressSpace[] = [];
    try {
      for (const domain of this.domains.value) {
        area.mapInto(domain);
        done.push(domain);
      }
      pages.areas.add(area);
    } catch (error) {
      for (const domain of done) area.unmapFrom(domain);
      throw error;
    } finally {
      yield* pages.dmabuf.resv.lock.unlock();
    }
    yield* pages.get();
    this.areas.change().splice(this.firstEndingAfter(area.iova), 0, area);
  }

  private *removeArea(area: IoptArea): Task {
    const { pages } = area;
    yield* pages.dmabuf.resv.lock.lock();
    for (const domain of this.domains.value) area.unmapFrom(domain);
    pages.areas.delete(area);
    yield* pages.dmabuf.resv.lock.unlock();
    this.areas.change().splice(this.firstEndingAfter(area.iova), 1);
    yield* pages.put();
  }

  private firstEndingAfter(iova: number): number {
    const areas = this.areas.get();
    let low = 0;
    let high = areas.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (areas[middle].end <= iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function reservedHits(domain: DmaAddressSpace, iova: number, end: number): boolean {
  return domain.reserved.some((range: IovaRange) => range.iova < end && range.end > iova);
}

function demandBelow(most: bigint, ...values: bigint[]): void {
  if (values.some((value) => value >= most)) throw new Errno('EOVERFLOW', `${values.join(', ')}: past 64 bits`);
}

function demandRange(iova: bigint, length: bigint): void {
  if (length === 0n) throw new Errno('EINVAL', `IOVA ${iova}: no bytes`);
  if (iova + length > U64_MAX + 1n) throw new Errno('EOVERFLOW', `IOVA ${iova}+${length} ends past 64 bits`);
}
