/** The guest's memory of a resource: ranges of bus addresses, read by DMA. */
import { viewOf } from '../../abi/layout.ts';
import { VIRTIO_GPU_RESP_ERR_UNSPEC, virtio_gpu_mem_entry } from '../../abi/virtio_gpu.ts';
import type { Task } from '../../task/op.ts';
import { ADDRESS_END, addressAt } from '../bus-address.ts';
import { DmaError } from '../virtio/dma.ts';
import type { QueueWork } from '../virtio/model.ts';
import { GpuError, invalid } from './errors.ts';
import { TURN_BYTES, Turn } from './turn.ts';

export const ENTRY_BYTES = virtio_gpu_mem_entry.sizeof;
/** Each read counts as some more bytes, since a driver may cut memory into bytes. */
const BYTES_OF_A_READ = 1024;

interface GuestRange {
  readonly address: number;
  /** The bytes of the resource that lie here. */
  readonly start: number;
  readonly end: number;
}

export class Backing {
  readonly sizeBytes: number;
  readonly count: number;
  private readonly ranges: readonly GuestRange[];
  /** Of this read and those before it. */
  private readonly turn = new Turn();

  /** From `virtio_gpu_mem_entry`s. Throws INVALID_PARAMETER for an entry past the bus's addresses. */
  constructor(entries: Uint8Array) {
    const view = viewOf(entries);
    const ranges: GuestRange[] = [];
    let start = 0;
    for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
      const address = addressAt(view, at + virtio_gpu_mem_entry.fields.addr.offset);
      const length = virtio_gpu_mem_entry.fields.length.get(view, at);
      if (address + length > ADDRESS_END) throw invalid(`memory at 0x${address.toString(16)}`);
      if (length > 0) ranges.push({ address, start, end: start + length });
      start += length;
    }
    this.ranges = ranges;
    this.count = entries.length / ENTRY_BYTES;
    this.sizeBytes = start;
  }

  /**
   * Reads bytes of the resource, and lets other tasks run in between. UNSPEC where the memory does not answer: it was
   * taken back, or never mapped.
   */
  *read(work: QueueWork, offset: number, into: Uint8Array): Task {
    if (offset + into.length > this.sizeBytes) {
      throw invalid(`bytes ${offset} to ${offset + into.length} of ${this.sizeBytes}`);
    }
    let index = this.rangeAt(offset);
    for (let at = 0; at < into.length; ) {
      const { address, start, end } = this.ranges[index];
      const skip = offset + at - start;
      const part = into.subarray(at, at + Math.min(end - start - skip, TURN_BYTES));
      yield* readNow(work, address + skip, part);
      yield* this.turn.took(work, part.length + BYTES_OF_A_READ);
      at += part.length;
      if (offset + at === end) index++;
    }
  }

  /** The index of the range that has byte `offset`, or of the first one for none. */
  private rangeAt(offset: number): number {
    let low = 0;
    let high = this.ranges.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ranges[middle].end <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function* readNow(work: QueueWork, address: number, into: Uint8Array): Task {
  try {
    yield* work.dma.read(address, into, 'memory of a resource');
  } catch (error) {
    if (!(error instanceof DmaError)) throw error;
    throw new GpuError(VIRTIO_GPU_RESP_ERR_UNSPEC, error.message);
  }
}
