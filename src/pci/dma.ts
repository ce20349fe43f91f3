/** What the addresses that a function puts on the bus mean: the interface that the IOMMU above fills in. */
import type { Task } from '../task/op.ts';
import type { Memory } from './memory.ts';

export const IOMMU_READ = 1 << 0;
export const IOMMU_WRITE = 1 << 1;

/** What lies behind an IOVA. */
export type DmaTarget =
  | { kind: 'memory'; memory: Memory; offset: number }
  /** A host address that is a BAR; the fabric finds it. */
  | { kind: 'mmio'; address: number }
  /** Memory that only its owner can reach (a vfio-user client without a shareable descriptor). */
  | { kind: 'remote'; access: RemoteMemory; address: number };

/** Both tell whether the owner did it; where it did not, or is gone, the request has failed. */
export interface RemoteMemory {
  read(address: number, into: Uint8Array): Task<boolean>;
  write(address: number, from: Uint8Array): Task<boolean>;
  /** The range is unmapped: what is under way there fails now. */
  abort(address: number, sizeBytes: number): void;
}

export interface DmaMapping {
  iova: number;
  sizeBytes: number;
  target: DmaTarget;
  prot: number;
}

/** Addresses from `iova` up to `end`. */
export interface IovaRange {
  iova: number;
  end: number;
}

/** An I/O address space; iommu/domain.ts is the one there is. */
export interface DmaAddressSpace {
  /** False for identity: addresses are host addresses, and nothing can be mapped. */
  readonly translates: boolean;
  /**
   * Every request goes through this space before any port sees it: the function sits on somebody else's bus (a
   * vfio-user client's), whose addresses mean nothing to the fabric here.
   */
  readonly ownsBus: boolean;
  /** Addresses that it does not translate, whatever is mapped. */
  readonly reserved: readonly IovaRange[];
  map(iova: number, sizeBytes: number, target: DmaTarget, prot: number): void;
  unmap(iova: number, sizeBytes: number): number;
  find(iova: number): DmaMapping | null;
  allocateIova(sizeBytes: number, dmaBits?: 32 | 64): number | null;
  freeIova(iova: number, sizeBytes: number): void;
}

/** How much of a copy was done; or which half of it failed. */
export type CopyOutcome = number | 'read-failed' | 'write-failed';

/** How a DMA ended: the completion status of PCIe, or what stopped it on the way. */
export type DmaStatus = 'ok' | 'unsupported-request' | 'iommu-fault' | 'bus-master-off';
