/** A driver of the virtio GPU: a method for each command, which returns the response's type. */
import { viewOf } from '../abi/layout.ts';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from '../abi/virtio.ts';
import * as abi from '../abi/virtio_gpu.ts';
import type { Task } from '../task/op.ts';
import { type DriverMemory, VirtioDriver, type VirtioFunction } from './virtio.ts';

export { QUEUE_BYTES } from './virtio.ts';

const CONTROL = 0;
const CURSOR = 1;
const MOST_RESPONSE_BYTES = 0x800;
const FEATURES = [abi.VIRTIO_GPU_F_EDID, abi.VIRTIO_GPU_F_RESOURCE_BLOB, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM];

export interface BackingRange {
  readonly address: number;
  readonly length: number;
}

type Box = [x: number, y: number, width: number, height: number];

export class VirtioGpuDriver {
  readonly virtio: VirtioDriver;
  private fences = 0;

  /** Starts the device. `memory` is what the device finds at `base`: twice QUEUE_BYTES. */
  constructor(fn: VirtioFunction, memory: DriverMemory, base: number, features: readonly number[] = []) {
    this.virtio = new VirtioDriver(fn, memory, base);
    fn.interrupts = { msi: (vector) => this.virtio.onInterrupt(vector - 1), intx: () => {} };
    if (!this.virtio.start([...FEATURES, ...features])) throw new Error('the device refuses the features');
  }

  create2d(resource_id: number, format: number, width: number, height: number): Task<number> {
    return this.send(
      abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
      abi.virtio_gpu_resource_create_2d.encode({ resource_id, format, width, height }),
    );
  }

  createBlob(resource_id: number, size: number, ranges: readonly BackingRange[]): Task<number> {
    const blob_mem = abi.VIRTIO_GPU_BLOB_MEM_GUEST;
    const head = abi.virtio_gpu_resource_create_blob.encode({ resource_id, blob_mem, size, nr_entries: ranges.length });
    return this.send(abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, withEntries(head, ranges));
  }

  attachBacking(resource_id: number, ranges: readonly BackingRange[]): Task<number> {
    const head = abi.virtio_gpu_resource_attach_backing.encode({ resource_id, nr_entries: ranges.length });
    return this.send(abi.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, withEntries(head, ranges));
  }

  detachBacking(resource_id: number): Task<number> {
    const request = abi.virtio_gpu_resource_detach_backing.encode({ resource_id });
    return this.send(abi.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, request);
  }

  unref(resource_id: number): Task<number> {
    return this.send(abi.VIRTIO_GPU_CMD_RESOURCE_UNREF, abi.virtio_gpu_resource_unref.encode({ resource_id }));
  }

  transfer(resource_id: number, box: Box, offset: number): Task<number> {
    const request = abi.virtio_gpu_transfer_to_host_2d.encode({ r: rect(box), resource_id, offset });
    return this.send(abi.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, request);
  }

  setScanout(scanout_id: number, resource_id: number, box: Box): Task<number> {
    const request = abi.virtio_gpu_set_scanout.encode({ r: rect(box), scanout_id, resource_id });
    return this.send(abi.VIRTIO_GPU_CMD_SET_SCANOUT, request);
  }

  /** `rows` is the number of bytes from one row to the next. */
  setScanoutBlob(scanout_id: number, resource_id: number, format: number, box: Box, rows: number): Task<number> {
    const [, , width, height] = box;
    const strides = new Uint8Array(new Uint32Array([rows, 0, 0, 0]).buffer);
    const fields = { r: rect(box), scanout_id, resource_id, width, height, format, strides };
    return this.send(abi.VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, abi.virtio_gpu_set_scanout_blob.encode(fields));
  }

  flush(resource_id: number, box: Box): Task<number> {
    const request = abi.virtio_gpu_resource_flush.encode({ r: rect(box), resource_id });
    return this.send(abi.VIRTIO_GPU_CMD_RESOURCE_FLUSH, request);
  }

  /** UPDATE_CURSOR. The cursor queue answers it too, where there is room. */
  updateCursor(scanout_id: number, resource_id: number, x: number, y: number): Task<number> {
    const pos = abi.virtio_gpu_cursor_pos.encode({ scanout_id, x, y });
    const request = abi.virtio_gpu_update_cursor.encode({ pos, resource_id });
    return this.send(abi.VIRTIO_GPU_CMD_UPDATE_CURSOR, request, CURSOR);
  }

  moveCursor(scanout_id: number, x: number, y: number): Task<number> {
    const pos = abi.virtio_gpu_cursor_pos.encode({ scanout_id, x, y });
    return this.send(abi.VIRTIO_GPU_CMD_MOVE_CURSOR, abi.virtio_gpu_update_cursor.encode({ pos }), CURSOR);
  }

  /** Sends a command with a fence, and returns the type of its response. */
  *send(type: number, request: Uint8Array, queue = CONTROL): Task<number> {
    return abi.virtio_gpu_ctrl_hdr.fields.type.get(viewOf(yield* this.call(type, request, queue)));
  }

  /** As `send`, with the whole response. */
  *call(type: number, request: Uint8Array, queue = CONTROL): Task<Uint8Array> {
    const fence_id = ++this.fences;
    abi.virtio_gpu_ctrl_hdr.write(viewOf(request), 0, { type, flags: abi.VIRTIO_GPU_FLAG_FENCE, fence_id });
    const response = yield* this.virtio.call(queue, request, MOST_RESPONSE_BYTES);
    const answered = abi.virtio_gpu_ctrl_hdr.fields.fence_id.get(viewOf(response));
    if (answered !== fence_id) throw new Error(`fence ${fence_id} is answered with ${answered}`);
    return response;
  }
}

function rect([x, y, width, height]: Box): Uint8Array {
  return abi.virtio_gpu_rect.encode({ x, y, width, height });
}

function withEntries(head: Uint8Array, ranges: readonly BackingRange[]): Uint8Array {
  const entries = ranges.map(({ address, length }) => abi.virtio_gpu_mem_entry.encode({ addr: address, length }));
  return Buffer.concat([head, ...entries]);
}
