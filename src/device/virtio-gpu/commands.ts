/** The commands of a virtio GPU: what each does, and the least bytes that it has (virtio 1.3, 5.7.6). */
import * as abi from '../../abi/virtio_gpu.ts';
import type { Task } from '../../task/op.ts';
import { addressAt } from '../bus-address.ts';
import type { QueueWork } from '../virtio/model.ts';
import { Backing, ENTRY_BYTES } from './backing.ts';
import { type Cursor, cursorPixels } from './cursor.ts';
import { edidOf } from './edid.ts';
import { invalid } from './errors.ts';
import { isFormat, PIXEL_BYTES } from './formats.ts';
import type { GpuRequest } from './request.ts';
import { backingOf, MAX_DIMENSION, type Resource, type Resources } from './resources.ts';
import { checkInside, intersection, type Rows, readRows, type Scanouts, type Surface } from './scanouts.ts';

/** The state that commands work on. */
export interface GpuState {
  readonly resources: Resources;
  readonly scanouts: Scanouts;
  readonly cursors: readonly Cursor[];
  /** The size of each screen. */
  readonly width: number;
  readonly height: number;
}

interface Command {
  readonly sizeBytes: number;
  /** Returns the response, or nothing for OK_NODATA. Throws GpuError for an error. */
  run(state: GpuState, request: GpuRequest, work: QueueWork): Task<Uint8Array> | Task;
}

export const CONTROL_COMMANDS: ReadonlyMap<number, Command> = new Map<number, Command>([
  [abi.VIRTIO_GPU_CMD_GET_DISPLAY_INFO, { sizeBytes: abi.virtio_gpu_ctrl_hdr.sizeof, run: getDisplayInfo }],
  [abi.VIRTIO_GPU_CMD_GET_EDID, { sizeBytes: abi.virtio_gpu_cmd_get_edid.sizeof, run: getEdid }],
  [abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_2D, { sizeBytes: abi.virtio_gpu_resource_create_2d.sizeof, run: create2d }],
  [abi.VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, { sizeBytes: abi.virtio_gpu_resource_create_blob.sizeof, run: createBlob }],
  [abi.VIRTIO_GPU_CMD_RESOURCE_UNREF, { sizeBytes: abi.virtio_gpu_resource_unref.sizeof, run: unref }],
  [
    abi.VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
    { sizeBytes: abi.virtio_gpu_resource_attach_backing.sizeof, run: attachBacking },
  ],
  [
    abi.VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
    { sizeBytes: abi.virtio_gpu_resource_detach_backing.sizeof, run: detachBacking },
  ],
  [abi.VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, { sizeBytes: abi.virtio_gpu_transfer_to_host_2d.sizeof, run: transfer }],
  [abi.VIRTIO_GPU_CMD_SET_SCANOUT, { sizeBytes: abi.virtio_gpu_set_scanout.sizeof, run: setScanout }],
  [abi.VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, { sizeBytes: abi.virtio_gpu_set_scanout_blob.sizeof, run: setScanoutBlob }],
  [abi.VIRTIO_GPU_CMD_RESOURCE_FLUSH, { sizeBytes: abi.virtio_gpu_resource_flush.sizeof, run: flush }],
]);

export const CURSOR_COMMANDS: ReadonlyMap<number, Command> = new Map<number, Command>([
  [abi.VIRTIO_GPU_CMD_UPDATE_CURSOR, { sizeBytes: abi.virtio_gpu_update_cursor.sizeof, run: updateCursor }],
  [abi.VIRTIO_GPU_CMD_MOVE_CURSOR, { sizeBytes: abi.virtio_gpu_update_cursor.sizeof, run: moveCursor }],
]);

function* getDisplayInfo({ scanouts, width, height }: GpuState, request: GpuRequest): Task<Uint8Array> {
  const response = abi.virtio_gpu_resp_display_info.encode({});
  for (let i = 0; i < scanouts.count; i++) {
    const one = abi.virtio_gpu_display_one.encode({ enabled: 1 });
    const at = abi.virtio_gpu_resp_display_info.fields.pmodes.offset + i * one.length;
    one.set(abi.virtio_gpu_rect.encode({ x: i * width, width, height }));
    response.set(one, at);
  }
  return request.answer(abi.VIRTIO_GPU_RESP_OK_DISPLAY_INFO, response);
}

function* getEdid({ scanouts, width, height }: GpuState, request: GpuRequest): Task<Uint8Array> {
  scanouts.check(abi.virtio_gpu_cmd_get_edid.fields.scanout.get(request.view));
  const edid = edidOf(width, height);
  return request.answer(abi.VIRTIO_GPU_RESP_OK_EDID, abi.virtio_gpu_resp_edid.encode({ size: edid.length, edid }));
}

function* create2d({ resources }: GpuState, request: GpuRequest): Task {
  const { fields } = abi.virtio_gpu_resource_create_2d;
  const { view } = request;
  resources.createPixels(
    fields.resource_id.get(view),
    fields.format.get(view),
    fields.width.get(view),
    fields.height.get(view),
  );
}

/** Only the guest's own memory can be a blob: the device has no memory to give. */
function* createBlob({ resources }: GpuState, request: GpuRequest): Task {
  const { sizeof, fields } = abi.virtio_gpu_resource_create_blob;
  const { view } = request;
  const memory = fields.blob_mem.get(view);
  if (memory !== abi.VIRTIO_GPU_BLOB_MEM_GUEST) throw invalid(`blob_mem ${memory}`);
  const sizeBytes = addressAt(view, fields.size.offset);
  if (sizeBytes === 0) throw invalid('a blob of 0 bytes');
  const entries = yield* request.following(sizeof, fields.nr_entries.get(view), ENTRY_BYTES);
  const backing = entries.length === 0 ? null : new Backing(entries);
  if (backing !== null && backing.sizeBytes < sizeBytes) {
    throw invalid(`a blob of ${sizeBytes} bytes in ${backing.sizeBytes} bytes of memory`);
  }
  resources.createBlob(fields.resource_id.get(view), sizeBytes, backing);
}

function* unref({ resources, scanouts }: GpuState, request: GpuRequest): Task {
  const id = abi.virtio_gpu_resource_unref.fields.resource_id.get(request.view);
  resources.remove(id);
  scanouts.forget(id);
}

function* attachBacking({ resources }: GpuState, request: GpuRequest): Task {
  const { sizeof, fields } = abi.virtio_gpu_resource_attach_backing;
  const id = fields.resource_id.get(request.view);
  resources.get(id);
  const entries = yield* request.following(sizeof, fields.nr_entries.get(request.view), ENTRY_BYTES);
  resources.attach(id, new Backing(entries));
}

/** Once it is answered the device does not touch the memory any more: all its reads hold the lock of this command. */
function* detachBacking({ resources }: GpuState, request: GpuRequest): Task {
  resources.detach(abi.virtio_gpu_resource_detach_backing.fields.resource_id.get(request.view));
}

function* transfer({ resources }: GpuState, request: GpuRequest, work: QueueWork): Task {
  const { fields } = abi.virtio_gpu_transfer_to_host_2d;
  const { view } = request;
  const resource = resources.get(fields.resource_id.get(view));
  // Linux asks for it all the same. The device reads blobs where they are.
  if (resource.kind === 'blob') return;
  const backing = backingOf(resource);
  const rect = request.rect(fields.r.offset);
  checkInside(rect, resource.width, resource.height);
  const stride = resource.width * PIXEL_BYTES;
  const offset = addressAt(view, fields.offset.offset);
  // Whole rows lie one after the other at both ends.
  const isWhole = rect.width === resource.width;
  const bytes = isWhole ? rect.height * stride : rect.width * PIXEL_BYTES;
  for (let y = 0; y < (isWhole ? 1 : rect.height); y++) {
    const at = (rect.y + y) * stride + rect.x * PIXEL_BYTES;
    yield* backing.read(work, offset + y * stride, resource.pixels.subarray(at, at + bytes));
  }
}

function* setScanout(state: GpuState, request: GpuRequest): Task {
  show(state, request, (resource) => {
    if (resource.kind !== '2d') throw invalid('a blob does not say its format: SET_SCANOUT_BLOB does');
    const { format, width, height } = resource;
    return { format, width, height, offset: 0, stride: width * PIXEL_BYTES };
  });
}

function* setScanoutBlob(state: GpuState, request: GpuRequest): Task {
  const { fields } = abi.virtio_gpu_set_scanout_blob;
  const { view } = request;
  show(state, request, (resource) => {
    if (resource.kind !== 'blob') throw invalid('the resource is not a blob');
    const rows: Rows = {
      format: fields.format.get(view),
      width: fields.width.get(view),
      height: fields.height.get(view),
      // Planes after the first are for formats that the device does not have.
      offset: view.getUint32(fields.offsets.offset, true),
      stride: view.getUint32(fields.strides.offset, true),
    };
    checkRows(rows, resource.sizeBytes);
    return rows;
  });
}

/** Carries out SET_SCANOUT or SET_SCANOUT_BLOB. Both begin with the same fields. Resource 0 stands for nothing. */
function show({ resources, scanouts }: GpuState, request: GpuRequest, rowsOf: (resource: Resource) => Rows): void {
  const { r, scanout_id, resource_id } = abi.virtio_gpu_set_scanout.fields;
  const id = scanout_id.get(request.view);
  const resourceId = resource_id.get(request.view);
  scanouts.check(id);
  if (resourceId === 0) {
    scanouts.set(id, null);
    return;
  }
  const resource = resources.get(resourceId);
  const surface: Surface = { resourceId, resource, ...rowsOf(resource) };
  scanouts.set(id, { surface, rect: request.rect(r.offset) });
}

function checkRows({ format, width, height, offset, stride }: Rows, sizeBytes: number): void {
  if (!isFormat(format)) throw invalid(`format ${format}`);
  if (width > MAX_DIMENSION || height > MAX_DIMENSION) throw invalid(`${width}x${height} pixels`);
  if (stride < width * PIXEL_BYTES) throw invalid(`rows of ${width} pixels in ${stride} bytes`);
  const end = offset + Math.max(0, height - 1) * stride + width * PIXEL_BYTES;
  if (end > sizeBytes) throw invalid(`pixels up to byte ${end} of ${sizeBytes}`);
}

/** Screens read a blob anew each time. The flush reads what it names too, so that the driver learns of lost memory. */
function* flush({ resources, scanouts }: GpuState, request: GpuRequest, work: QueueWork): Task {
  const { fields } = abi.virtio_gpu_resource_flush;
  const id = fields.resource_id.get(request.view);
  const resource = resources.get(id);
  const rect = request.rect(fields.r.offset);
  if (resource.kind === '2d') {
    checkInside(rect, resource.width, resource.height);
    return;
  }
  for (const { surface, rect: shown } of scanouts.of(id)) {
    checkInside(rect, surface.width, surface.height);
    const part = intersection(rect, shown);
    if (part !== null) yield* readRows(work, surface, part, () => {});
  }
}

function* updateCursor(state: GpuState, request: GpuRequest, work: QueueWork): Task {
  const { fields } = abi.virtio_gpu_update_cursor;
  const cursor = cursorOf(state, request);
  const resourceId = fields.resource_id.get(request.view);
  const pixels = resourceId === 0 ? null : yield* cursorPixels(work, state.resources.get(resourceId));
  yield* moveCursor(state, request);
  cursor.pixels = pixels;
}

function* moveCursor(state: GpuState, request: GpuRequest): Task {
  const cursor = cursorOf(state, request);
  const at = abi.virtio_gpu_update_cursor.fields.pos.offset;
  cursor.x = abi.virtio_gpu_cursor_pos.fields.x.get(request.view, at);
  cursor.y = abi.virtio_gpu_cursor_pos.fields.y.get(request.view, at);
}

function cursorOf({ scanouts, cursors }: GpuState, request: GpuRequest): Cursor {
  const at = abi.virtio_gpu_update_cursor.fields.pos.offset;
  const id = abi.virtio_gpu_cursor_pos.fields.scanout_id.get(request.view, at);
  scanouts.check(id);
  return cursors[id];
}
