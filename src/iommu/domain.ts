/** I/O address spaces: the translation of addresses that a device puts on the bus (drivers/iommu). */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { DmaAddressSpace, DmaMapping, DmaTarget, IovaRange } from '../pci/dma.ts';
import { RangeMap } from './range-map.ts';

/** The first IOVA for a device with more than 32 address bits. */
const IOVA_START = 2 ** 32;
const IOVA_END = 2 ** 48;
/** The window of interrupts on x86. */
const MSI_WINDOW: IovaRange = { iova: 0xfee00000, end: 0xfef00000 };

/** Addresses that VT-d does not translate: the window of interrupts, and addresses of more than 48 bits. */
export const HOST_RESERVED: readonly IovaRange[] = [MSI_WINDOW, { iova: IOVA_END, end: Number.POSITIVE_INFINITY }];

export interface IommuDomainOptions {
  translates?: boolean;
  ownsBus?: boolean;
  reserved?: readonly IovaRange[];
}

/** One address space. */
export class IommuDomain implements DmaAddressSpace {
  readonly name: string;
  /** False for identity: addresses are host addresses, and nothing can be mapped. */
  readonly translates: boolean;
  readonly ownsBus: boolean;
  readonly reserved: readonly IovaRange[];
  private readonly mappings = new RangeMap<DmaMapping>();
  private nextIova = IOVA_START;
  private readonly freeIovas = new Map<number, number[]>();

  constructor(name: string, { translates = true, ownsBus = false, reserved = [] }: IommuDomainOptions = {}) {
    this.name = name;
    this.reserved = reserved;
    this.translates = translates;
    this.ownsBus = ownsBus;
  }

  get mappingCount(): number {
    return this.mappings.size;
  }

  /** iommu_map. EINVAL for partial pages, EEXIST where an address is already mapped. */
  map(iova: number, sizeBytes: number, target: DmaTarget, prot: number): void {
    if (sizeBytes <= 0 || iova % PAGE_SIZE !== 0 || sizeBytes % PAGE_SIZE !== 0) {
      throw new Errno('EINVAL', `${this.name}: ${sizeBytes} bytes at IOVA 0x${iova.toString(16)} are not whole pages`);
    }
    if (!this.mappings.insert(iova, iova + sizeBytes, { iova, sizeBytes, target, prot })) {
      throw new Errno('EEXIST', `${this.name}: IOVA 0x${iova.toString(16)} is mapped already`);
    }
  }

  /**
   * iommu_unmap of whole mappings; returns the bytes unmapped. EINVAL, with nothing changed, if it would cut a mapping.
   */
  unmap(iova: number, sizeBytes: number): number {
    const end = iova + sizeBytes;
    let bytes = 0;
    for (const mapping of this.mappings.overlapping(iova, end)) {
      if (mapping.iova < iova || mapping.iova + mapping.sizeBytes > end) {
        throw new Errno('EINVAL', `${this.name}: the unmap would cut the mapping at 0x${mapping.iova.toString(16)}`);
      }
      bytes += mapping.sizeBytes;
    }
    if (bytes > 0) this.mappings.remove(iova, end);
    return bytes;
  }

  /** The mapping that holds an IOVA; null is an IOMMU fault. */
  find(iova: number): DmaMapping | null {
    return this.mappings.find(iova);
  }

  /** Every mapping, in order of IOVA. */
  list(): readonly DmaMapping[] {
    return [...this.mappings.values()];
  }

  /**
   * dma_iova_try_alloc: a free run of addresses, or null when there is none. Below 4 GiB a run counts as free while
   * nothing is mapped there: the caller must map it before it asks for the next one.
   */
  allocateIova(sizeBytes: number, dmaBits: 32 | 64 = 64): number | null {
    if (dmaBits === 32) return this.lowIova(sizeBytes);
    const recycled = this.freeIovas.get(sizeBytes)?.pop();
    if (recycled !== undefined) return recycled;
    const iova = this.nextIova;
    if (iova + sizeBytes > IOVA_END) return null;
    this.nextIova += sizeBytes;
    return iova;
  }

  freeIova(iova: number, sizeBytes: number): void {
    if (iova < IOVA_START) return;
    if (iova + sizeBytes === this.nextIova) {
      this.nextIova = iova;
      return;
    }
    const free = this.freeIovas.get(sizeBytes);
    if (free === undefined) this.freeIovas.set(sizeBytes, [iova]);
    else free.push(iova);
  }

  /** The highest run below 4 GiB, aligned to its size as alloc_iova aligns it; never the page at 0. */
  private lowIova(sizeBytes: number): number | null {
    const alignment = Math.max(PAGE_SIZE, 2 ** Math.ceil(Math.log2(sizeBytes)));
    const below = (address: number) => Math.floor((address - sizeBytes) / alignment) * alignment;
    for (let iova = below(IOVA_START); iova > 0; ) {
      const end = iova + sizeBytes;
      const inTheWay =
        this.mappings.firstOverlap(iova, end) ??
        [MSI_WINDOW, ...this.reserved].find((range) => range.iova < end && range.end > iova);
      if (inTheWay === undefined) return iova;
      iova = below(inTheWay.iova);
    }
    return null;
  }
}
