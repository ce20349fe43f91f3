/** A command of the driver, and the response to it. */
import { viewOf } from '../../abi/layout.ts';
import {
  VIRTIO_GPU_FLAG_FENCE,
  VIRTIO_GPU_FLAG_INFO_RING_IDX,
  virtio_gpu_ctrl_hdr,
  virtio_gpu_rect,
} from '../../abi/virtio_gpu.ts';
import type { Task } from '../../task/op.ts';
import type { Chain } from '../virtio/chain.ts';
import { invalid } from './errors.ts';
import type { Rect } from './scanouts.ts';

export const HEADER_BYTES = virtio_gpu_ctrl_hdr.sizeof;
/** The bytes of the largest command, without the entries that follow it. */
const MOST_BYTES = 96;
/** Linux 7.3 sends one entry for each page in the worst case: this is 1 GiB. */
const MAX_ENTRIES = 2 ** 18;

export class GpuRequest {
  readonly type: number;
  /** Zeros follow a request that is too short. */
  readonly view: DataView;
  private readonly chain: Chain;

  private constructor(chain: Chain, bytes: Uint8Array) {
    this.chain = chain;
    this.view = viewOf(bytes);
    this.type = virtio_gpu_ctrl_hdr.fields.type.get(this.view);
  }

  static *read(chain: Chain): Task<GpuRequest> {
    const bytes = new Uint8Array(MOST_BYTES);
    yield* chain.read(0, bytes.subarray(0, Math.min(MOST_BYTES, chain.readableBytes)));
    return new GpuRequest(chain, bytes);
  }

  /** INVALID_PARAMETER for a request that lacks bytes. */
  checkLength(sizeBytes: number): void {
    if (this.chain.readableBytes < sizeBytes) {
      throw invalid(`a command of ${this.chain.readableBytes} bytes, ${sizeBytes} are needed`);
    }
  }

  rect(offset: number): Rect {
    return virtio_gpu_rect.read(this.view, offset);
  }

  /** Reads the `count` entries of `entryBytes` that follow the first `sizeBytes` of the request. */
  *following(sizeBytes: number, count: number, entryBytes: number): Task<Uint8Array> {
    if (count > MAX_ENTRIES) throw invalid(`${count} entries, ${MAX_ENTRIES} at most`);
    this.checkLength(sizeBytes + count * entryBytes);
    const entries = new Uint8Array(count * entryBytes);
    yield* this.chain.read(sizeBytes, entries);
    return entries;
  }

  /** Completes a response: its type, and the fence and context of the request. */
  answer(type: number, response: Uint8Array = new Uint8Array(HEADER_BYTES)): Uint8Array {
    const { fields } = virtio_gpu_ctrl_hdr;
    const flags = fields.flags.get(this.view) & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
    virtio_gpu_ctrl_hdr.write(viewOf(response), 0, {
      type,
      flags,
      fence_id: fields.fence_id.getBig(this.view),
      ctx_id: fields.ctx_id.get(this.view),
      ring_idx: fields.ring_idx.get(this.view),
    });
    return response;
  }
}
