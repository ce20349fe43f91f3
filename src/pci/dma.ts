/** The translation of addresses that a function puts on the bus: the interface that iommu/ implements. */
import type { Task } from '../task/op.ts';
import type { Memory } from './memory.ts';

export const IOMMU_READ = 1 << 0;
export const IOMMU_WRITE = 1 << 1;

/** The target of an IOVA. */
export type DmaTarget =
  | { kind: 'memory'; memory: Memory; offset: number }
  /** A host address in a BAR; the fabric finds it. */
  | { kind: 'mmio'; address: number }
  /** Memory that only its owner can reach (of a vfio-user client without a shareable descriptor). */
  | { kind: 'remote'; access: RemoteMemory; address: number };

/** The target `offset` bytes further on. */
export function advance(target: DmaTarget, offset: number): DmaTarget {
  switch (target.kind) {
    case 'memory':
      return { ...target, offset: target.offset + offset };
    case 'mmio':
      return { kind: 'mmio', address: target.address + offset };
    case 'remote':
      return { ...target, address: target.address + offset };
  }
}

/** Both return whether the owner did it. If it did not, or is gone, the request fails. */
export interface RemoteMemory {
  /** The most bytes of one call. */
  readonly chunkBytes: number;
  read(address: number, into: Uint8Array): Task<boolean>;
  write(address: number, from: Uint8Array): Task<boolean>;
  /** The range is unmapped: requests under way there fail now. */
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

/** An I/O address space; iommu/domain.ts implements it. */
export interface DmaAddressSpace {
  /** False for identity: addresses are host addresses, and nothing can be mapped. */
  readonly translates: boolean;
  /**
   * Every request goes through this space before any port sees it. The function is on another bus (a vfio-user
   * client's), whose addresses have no meaning in this fabric.
   */
  readonly ownsBus: boolean;
  /** Addresses that it never translates. */
  readonly reserved: readonly IovaRange[];
  map(iova: number, sizeBytes: number, target: DmaTarget, prot: number): void;
  unmap(iova: number, sizeBytes: number): number;
  find(iova: number): DmaMapping | null;
  allocateIova(sizeBytes: number, dmaBits?: 32 | 64): number | null;
  freeIova(iova: number, sizeBytes: number): void;
}

/** The bytes that a copy moved, or the half of it that failed. */
export type CopyOutcome = number | 'read-failed' | 'write-failed';

/** How a DMA ended: the completion status of PCIe, or the reason that it did not get there. */
export type DmaStatus = 'ok' | 'unsupported-request' | 'iommu-fault' | 'bus-master-off' | 'not-in-d0' | 'reset';
