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

export interface RemoteMemory {
  read(address: number, into: Uint8Array): Task<void>;
  write(address: number, from: Uint8Array): Task<void>;
}

export interface DmaMapping {
  iova: number;
  sizeBytes: number;
  target: DmaTarget;
  prot: number;
}

/** An I/O address space; iommu/domain.ts is the one there is. */
export interface DmaAddressSpace {
  /** False for identity: addresses are host addresses, and nothing can be mapped. */
  readonly translates: boolean;
  map(iova: number, sizeBytes: number, target: DmaTarget, prot: number): void;
  unmap(iova: number, sizeBytes: number): number;
  find(iova: number): DmaMapping | null;
  allocateIova(sizeBytes: number): number | null;
  freeIova(iova: number, sizeBytes: number): void;
}

/** How a DMA ended: the completion status of PCIe, or what stopped it on the way. */
export type DmaStatus = 'ok' | 'unsupported-request' | 'iommu-fault' | 'bus-master-off';
