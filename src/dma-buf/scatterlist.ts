/**
 * Scatterlists of peer-to-peer memory: DMA addresses and lengths, without struct pages
 * (drivers/dma-buf/dma-buf-mapping.c).
 */
import { Errno } from '../abi/errno.ts';
import { type DmaAddressSpace, type DmaTarget, IOMMU_READ, IOMMU_WRITE } from '../pci/dma.ts';
import type { PciFunction } from '../pci/function.ts';
import { mapType } from '../pci/p2pdma.ts';
import { mayLackMemory } from '../task/faults.ts';
import { Lifetime } from '../task/lifetime.ts';

/** A range of an exporter's memory by host address (struct phys_vec). */
export interface PhysVec {
  /** The host address of the first byte. */
  address: number;
  /** The length in bytes. */
  sizeBytes: number;
}

/**
 * The `length` bytes from `start` of `ranges`, laid end to end. `part` makes each piece from its range, its offset in
 * the range, and its length.
 */
export function cutRanges<R extends { sizeBytes: number }>(
  ranges: readonly R[],
  start: number,
  length: number,
  part: (range: R, skip: number, sizeBytes: number) => R,
): R[] {
  const parts: R[] = [];
  let at = 0;
  for (const range of ranges) {
    const from = Math.max(start, at);
    const to = Math.min(start + length, at + range.sizeBytes);
    if (from < to) parts.push(part(range, from - at, to - from));
    at += range.sizeBytes;
  }
  return parts;
}

/** The `length` bytes from `start` of `ranges`, laid end to end, by host address. */
export function slicePhysVec(ranges: readonly PhysVec[], start: number, length: number): PhysVec[] {
  return cutRanges(ranges, start, length, ({ address }, skip, sizeBytes) => ({ address: address + skip, sizeBytes }));
}

/** The address and length that the importer programs its engine with: sg_dma_address and sg_dma_len. */
export interface SgSegment {
  /** The bus address or IOVA of the first byte, as the importer uses it. */
  address: number;
  /** The length in bytes, at most 4 GiB less a page. */
  sizeBytes: number;
}

/** The longest segment: UINT_MAX rounded down to a page, since a segment's length has 32 bits. */
export const MAX_SEGMENT_BYTES = 0xfffff000;
const MAX_SEGMENTS = 0xffffffff;

/** Addresses of a domain that a mapping took. */
export interface MappedIova {
  /** The domain of the importer. */
  readonly domain: DmaAddressSpace;
  /** The first address. */
  readonly iova: number;
  /** The length in bytes. */
  readonly sizeBytes: number;
}

/** Addresses of one mapping, valid until it is unmapped (struct sg_table, the DMA side only). */
export class SgTable {
  /** The segments in the order of the bytes of the buffer. */
  readonly segments: readonly SgSegment[];
  /** Ends with the unmap. A later use is one of stale addresses. */
  readonly lifetime = new Lifetime('sg_table');
  /** The IOVAs of the memory, which unmapping frees. Empty where peers use bus addresses. */
  readonly iovas: readonly MappedIova[];

  constructor(segments: readonly SgSegment[], iovas: readonly MappedIova[]) {
    this.segments = segments;
    this.iovas = iovas;
  }

  /** Bytes of all segments. */
  get sizeBytes(): number {
    return this.segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }
}

/** Cuts runs of addresses into segments. EINVAL where their number would not fit into 32 bits. */
export function cutSegments(runs: readonly PhysVec[]): SgSegment[] {
  const count = runs.reduce((sum, run) => sum + Math.ceil(run.sizeBytes / MAX_SEGMENT_BYTES), 0);
  if (count > MAX_SEGMENTS) throw new Errno('EINVAL', `the mapping would need ${count} segments`);
  const segments: SgSegment[] = [];
  for (const run of runs) {
    for (let at = 0; at < run.sizeBytes; at += MAX_SEGMENT_BYTES) {
      const sizeBytes = Math.min(MAX_SEGMENT_BYTES, run.sizeBytes - at);
      segments.push({ address: run.address + at, sizeBytes });
    }
  }
  return segments;
}

/**
 * dma_buf_phys_vec_to_sgt: makes the ranges of `exporter` reachable for the DMA of `importer`. Below one bridge that
 * does not redirect, it uses bus addresses, past the IOMMU. Else DMA goes through the host bridge: by one IOVA for all
 * ranges if the importer's domain translates, or by each range's own address. EINVAL where the two cannot reach each
 * other. ENOMEM where the importer's DMA mask leaves no addresses; then nothing is mapped. With `oneRangeByIova`,
 * several ranges in one IOVA give EADDRINUSE, as in Linux 7.3: it links the second range where it has linked the first.
 */
export function mapPhysVec(
  importer: PciFunction,
  exporter: PciFunction,
  physVec: readonly PhysVec[],
  sizeBytes: number,
  { oneRangeByIova = false } = {},
): SgTable {
  // All memory comes before the IOVA, so that a failure has nothing to undo.
  mayLackMemory('sg_table');
  mayLackMemory('iova');
  const route = mapType(exporter, importer);
  if (route.type === 'not-supported') {
    throw new Errno('EINVAL', `${importer.name} cannot reach ${exporter.name}: no peer-to-peer route between them`);
  }
  if (route.type === 'bus-addr') {
    const runs = physVec.map((range) => ({ ...range, address: range.address + route.busOffset }));
    return new SgTable(cutSegments(runs), []);
  }
  const domain = importer.iommuDomain;
  if (domain === null || !domain.translates) {
    const far = physVec.find((range) => range.address + range.sizeBytes > 2 ** importer.dmaBits);
    if (far === undefined) return new SgTable(cutSegments(physVec), []);
    throw new Errno('ENOMEM', `0x${far.address.toString(16)} does not fit into ${importer.dmaBits} bits`);
  }
  const iova = domain.allocateIova(sizeBytes, importer.dmaBits);
  if (iova === null) return mapEachRange(domain, physVec, importer.dmaBits);
  if (oneRangeByIova && physVec.length > 1) {
    domain.freeIova(iova, sizeBytes);
    throw new Errno('EADDRINUSE', `${physVec.length} ranges cannot be linked to one IOVA`);
  }
  return mapContiguous(domain, iova, physVec, sizeBytes);
}

/** dma_buf_free_sgt. */
export function unmapPhysVec(table: SgTable): void {
  unmapIovas(table.iovas);
  table.lifetime.end();
}

function unmapIovas(iovas: SgTable['iovas']): void {
  for (const { domain, iova, sizeBytes } of iovas) {
    domain.unmap(iova, sizeBytes);
    domain.freeIova(iova, sizeBytes);
  }
}

function mapContiguous(domain: DmaAddressSpace, iova: number, physVec: readonly PhysVec[], sizeBytes: number): SgTable {
  let at = iova;
  for (const range of physVec) {
    domain.map(at, range.sizeBytes, mmio(range), IOMMU_READ | IOMMU_WRITE);
    at += range.sizeBytes;
  }
  return new SgTable(cutSegments([{ address: iova, sizeBytes }]), [{ domain, iova, sizeBytes }]);
}

/** For when no single IOVA has room for all: gives each range its own, and maps all or none. */
function mapEachRange(domain: DmaAddressSpace, physVec: readonly PhysVec[], dmaBits: 32 | 64): SgTable {
  const mapped: MappedIova[] = [];
  for (const range of physVec) {
    const iova = domain.allocateIova(range.sizeBytes, dmaBits);
    if (iova === null) {
      unmapIovas(mapped);
      throw new Errno('ENOMEM', `no IOVA of ${range.sizeBytes} bytes is left in the domain`);
    }
    domain.map(iova, range.sizeBytes, mmio(range), IOMMU_READ | IOMMU_WRITE);
    mapped.push({ domain, iova, sizeBytes: range.sizeBytes });
  }
  const runs = mapped.map(({ iova, sizeBytes }) => ({ address: iova, sizeBytes }));
  return new SgTable(cutSegments(runs), mapped);
}

function mmio(range: PhysVec): DmaTarget {
  return { kind: 'mmio', address: range.address };
}
