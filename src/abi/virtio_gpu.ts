/**
 * The virtio GPU device (linux/virtio_gpu.h; virtio 1.3, 5.7): 2D, blob resources and cursors, without 3D. Inner
 * structs are declared as bytes; code reads each at the offset of its field.
 */
import { bytes, struct, u8, u32, u64 } from './layout.ts';

/** Feature bits. */
export const VIRTIO_GPU_F_EDID = 1;
export const VIRTIO_GPU_F_RESOURCE_BLOB = 3;

export const VIRTIO_GPU_CMD_GET_DISPLAY_INFO = 0x0100;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_2D = 0x0101;
export const VIRTIO_GPU_CMD_RESOURCE_UNREF = 0x0102;
export const VIRTIO_GPU_CMD_SET_SCANOUT = 0x0103;
export const VIRTIO_GPU_CMD_RESOURCE_FLUSH = 0x0104;
export const VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D = 0x0105;
export const VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING = 0x0106;
export const VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING = 0x0107;
export const VIRTIO_GPU_CMD_GET_EDID = 0x010a;
export const VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB = 0x010c;
export const VIRTIO_GPU_CMD_SET_SCANOUT_BLOB = 0x010d;
export const VIRTIO_GPU_CMD_UPDATE_CURSOR = 0x0300;
export const VIRTIO_GPU_CMD_MOVE_CURSOR = 0x0301;

export const VIRTIO_GPU_RESP_OK_NODATA = 0x1100;
export const VIRTIO_GPU_RESP_OK_DISPLAY_INFO = 0x1101;
export const VIRTIO_GPU_RESP_OK_EDID = 0x1104;
export const VIRTIO_GPU_RESP_ERR_UNSPEC = 0x1200;
export const VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY = 0x1201;
export const VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID = 0x1202;
export const VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID = 0x1203;
export const VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID = 0x1204;
export const VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER = 0x1205;

export const VIRTIO_GPU_FLAG_FENCE = 1 << 0;
export const VIRTIO_GPU_FLAG_INFO_RING_IDX = 1 << 1;
export const VIRTIO_GPU_MAX_SCANOUTS = 16;
export const VIRTIO_GPU_EVENT_DISPLAY = 1 << 0;

export const VIRTIO_GPU_BLOB_MEM_GUEST = 0x0001;
export const VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE = 0x0001;
export const VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE = 0x0002;
export const VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE = 0x0004;

/** Formats name the bytes in the order of their addresses. */
export const VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM = 1;
export const VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM = 2;
export const VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM = 3;
export const VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM = 4;
export const VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM = 67;
export const VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM = 68;
export const VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM = 121;
export const VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM = 134;

export const virtio_gpu_config = struct('virtio_gpu_config', 16, {
  events_read: u32(0),
  events_clear: u32(4),
  num_scanouts: u32(8),
  num_capsets: u32(12),
});

export const virtio_gpu_ctrl_hdr = struct('virtio_gpu_ctrl_hdr', 24, {
  type: u32(0),
  flags: u32(4),
  fence_id: u64(8),
  ctx_id: u32(16),
  ring_idx: u8(20),
  padding: bytes(21, 3),
});

export const virtio_gpu_rect = struct('virtio_gpu_rect', 16, {
  x: u32(0),
  y: u32(4),
  width: u32(8),
  height: u32(12),
});

export const virtio_gpu_display_one = struct('virtio_gpu_display_one', 24, {
  r: bytes(0, 16),
  enabled: u32(16),
  flags: u32(20),
});
export const virtio_gpu_resp_display_info = struct('virtio_gpu_resp_display_info', 408, {
  hdr: bytes(0, 24),
  pmodes: bytes(24, 24 * VIRTIO_GPU_MAX_SCANOUTS),
});

export const virtio_gpu_resource_create_2d = struct('virtio_gpu_resource_create_2d', 40, {
  hdr: bytes(0, 24),
  resource_id: u32(24),
  format: u32(28),
  width: u32(32),
  height: u32(36),
});

export const virtio_gpu_resource_unref = struct('virtio_gpu_resource_unref', 32, {
  hdr: bytes(0, 24),
  resource_id: u32(24),
  padding: u32(28),
});

export const virtio_gpu_set_scanout = struct('virtio_gpu_set_scanout', 48, {
  hdr: bytes(0, 24),
  r: bytes(24, 16),
  scanout_id: u32(40),
  resource_id: u32(44),
});

export const virtio_gpu_resource_flush = struct('virtio_gpu_resource_flush', 48, {
  hdr: bytes(0, 24),
  r: bytes(24, 16),
  resource_id: u32(40),
  padding: u32(44),
});

export const virtio_gpu_transfer_to_host_2d = struct('virtio_gpu_transfer_to_host_2d', 56, {
  hdr: bytes(0, 24),
  r: bytes(24, 16),
  offset: u64(40),
  resource_id: u32(48),
  padding: u32(52),
});

export const virtio_gpu_mem_entry = struct('virtio_gpu_mem_entry', 16, {
  addr: u64(0),
  length: u32(8),
  padding: u32(12),
});

/** Entries follow. */
export const virtio_gpu_resource_attach_backing = struct('virtio_gpu_resource_attach_backing', 32, {
  hdr: bytes(0, 24),
  resource_id: u32(24),
  nr_entries: u32(28),
});

export const virtio_gpu_resource_detach_backing = struct('virtio_gpu_resource_detach_backing', 32, {
  hdr: bytes(0, 24),
  resource_id: u32(24),
  padding: u32(28),
});

export const virtio_gpu_cmd_get_edid = struct('virtio_gpu_cmd_get_edid', 32, {
  hdr: bytes(0, 24),
  scanout: u32(24),
  padding: u32(28),
});
export const virtio_gpu_resp_edid = struct('virtio_gpu_resp_edid', 1056, {
  hdr: bytes(0, 24),
  size: u32(24),
  padding: u32(28),
  edid: bytes(32, 1024),
});

/** Entries follow. */
export const virtio_gpu_resource_create_blob = struct('virtio_gpu_resource_create_blob', 56, {
  hdr: bytes(0, 24),
  resource_id: u32(24),
  blob_mem: u32(28),
  blob_flags: u32(32),
  nr_entries: u32(36),
  blob_id: u64(40),
  size: u64(48),
});

export const virtio_gpu_set_scanout_blob = struct('virtio_gpu_set_scanout_blob', 96, {
  hdr: bytes(0, 24),
  r: bytes(24, 16),
  scanout_id: u32(40),
  resource_id: u32(44),
  width: u32(48),
  height: u32(52),
  format: u32(56),
  padding: u32(60),
  strides: bytes(64, 16),
  offsets: bytes(80, 16),
});

export const virtio_gpu_cursor_pos = struct('virtio_gpu_cursor_pos', 16, {
  scanout_id: u32(0),
  x: u32(4),
  y: u32(8),
  padding: u32(12),
});

/** UPDATE_CURSOR and MOVE_CURSOR; only the former has the fields after `pos`. */
export const virtio_gpu_update_cursor = struct('virtio_gpu_update_cursor', 56, {
  hdr: bytes(0, 24),
  pos: bytes(24, 16),
  resource_id: u32(40),
  hot_x: u32(44),
  hot_y: u32(48),
  padding: u32(52),
});
