/** The attachments, mappings and debts of an importer in another process. */
import { Errno } from '../../abi/errno.ts';
import type { DmaBuf, DmaBufAttachment, DmaDirection } from '../../dma-buf/dma-buf.ts';
import type { DmaFence } from '../../dma-buf/fence.ts';
import type { SgTable } from '../../dma-buf/scatterlist.ts';
import type { Memory } from '../../pci/memory.ts';
import type { Task } from '../../task/op.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import { IMPORTER_LIMITS } from './limits.ts';

/** A slice of a BAR's memory. */
export interface MemoryRange {
  offset: number;
  sizeBytes: number;
}

export interface RemoteMapping {
  readonly id: number;
  readonly attachment: RemoteAttachment;
  readonly direction: DmaDirection;
  readonly table: SgTable;
  /** All ranges of a buffer lie in one BAR. */
  readonly memory: Memory;
  readonly ranges: readonly MemoryRange[];
}

export class RemoteAttachment {
  readonly id: number;
  attachment!: DmaBufAttachment;

  constructor(id: number) {
    this.id = id;
  }
}

/** The debt of an importer for one INVALIDATE. Its answer gives these mappings back; these fences must signal. */
export interface InvalidateRequest {
  readonly attachment: number;
  readonly mappings: readonly RemoteMapping[];
  readonly fences: readonly DmaFence[];
}

/** The way to the importer. Called with the reservation held, so it must not wait for an answer. */
export interface ImporterLink {
  /** Sends INVALIDATE. `acknowledge(told)` is called when the importer answers. */
  invalidate(told: InvalidateRequest): Task;
  /** Sends RESTORE. */
  restore(attachment: number): Task;
}

/** Returns where the bytes of a mapping are. All of them lie in one BAR, whose device exists while it is mapped. */
export function memoryOf(dmabuf: DmaBuf, table: SgTable): { memory: Memory; ranges: MemoryRange[] } {
  const { physVec, vdev } = dmabuf.priv as VfioPciDmaBuf;
  const { fabric } = vdev.get()!.pdev;
  const { bar } = fabric!.decode(physVec[0].address)!;
  const { memory } = bar.target;
  if (memory === null) throw new Errno('EOPNOTSUPP', `BAR ${bar.index} is registers: nothing of it can be shared`);
  if (table.segments.length > IMPORTER_LIMITS.maxRanges) {
    const reason = `${table.segments.length} ranges; ${IMPORTER_LIMITS.maxRanges} fit into a message`;
    throw beyondLimit('maxRanges', 'E2BIG', reason);
  }
  return {
    memory,
    ranges: table.segments.map(({ address, sizeBytes }) => ({ offset: address - bar.address, sizeBytes })),
  };
}
