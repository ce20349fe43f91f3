import { _IOW, _IOWR } from './ioctl.ts';
import { bytes, s32, struct, u32, u64 } from './layout.ts';

/** linux/dma-buf.h: the ioctls of a dma-buf file descriptor. */
export const DMA_BUF_SYNC_READ = 1 << 0;
export const DMA_BUF_SYNC_WRITE = 2 << 0;
export const DMA_BUF_SYNC_RW = DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE;
export const DMA_BUF_SYNC_START = 0 << 2;
export const DMA_BUF_SYNC_END = 1 << 2;
export const DMA_BUF_SYNC_VALID_FLAGS_MASK = DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END;
/** Bytes of a name with its terminating zero; a name of 32 characters is refused. */
export const DMA_BUF_NAME_LEN = 32;

export const dma_buf_sync = struct('dma_buf_sync', 8, { flags: u64(0) });
/** The kernel writes `fd`: a sync file that waits for writers (READ) or for every user (WRITE). */
export const dma_buf_export_sync_file = struct('dma_buf_export_sync_file', 8, { flags: u32(0), fd: s32(4) });
export const dma_buf_import_sync_file = struct('dma_buf_import_sync_file', 8, { flags: u32(0), fd: s32(4) });

export const DMA_BUF_BASE = 0x62; // 'b'
export const DMA_BUF_IOCTL_SYNC = _IOW(DMA_BUF_BASE, 0, dma_buf_sync);
/** The argument is a pointer. The number holds its size, so that 32- and 64-bit callers differ (_A and _B). */
export const DMA_BUF_SET_NAME = _IOW(DMA_BUF_BASE, 1, 8);
export const DMA_BUF_SET_NAME_A = _IOW(DMA_BUF_BASE, 1, 4);
export const DMA_BUF_SET_NAME_B = _IOW(DMA_BUF_BASE, 1, 8);
export const DMA_BUF_IOCTL_EXPORT_SYNC_FILE = _IOWR(DMA_BUF_BASE, 2, dma_buf_export_sync_file);
export const DMA_BUF_IOCTL_IMPORT_SYNC_FILE = _IOW(DMA_BUF_BASE, 3, dma_buf_import_sync_file);

/** linux/sync_file.h: the ioctls of a sync file. Names are at most 31 characters and a zero. */
export const SYNC_IOC_MAGIC = 0x3e; // '>'
export const sync_merge_data = struct('sync_merge_data', 48, {
  name: bytes(0, 32),
  fd2: s32(32),
  fence: s32(36),
  flags: u32(40),
  pad: u32(44),
});
export const sync_fence_info = struct('sync_fence_info', 80, {
  obj_name: bytes(0, 32),
  driver_name: bytes(32, 32),
  status: s32(64), // 1 signalled, 0 active, negative an errno
  flags: u32(68),
  timestamp_ns: u64(72),
});
export const sync_file_info = struct('sync_file_info', 56, {
  name: bytes(0, 32),
  status: s32(32),
  flags: u32(36),
  num_fences: u32(40),
  pad: u32(44),
  sync_fence_info: u64(48), // pointer to num_fences of sync_fence_info
});
export const SYNC_IOC_MERGE = _IOWR(SYNC_IOC_MAGIC, 3, sync_merge_data);
export const SYNC_IOC_FILE_INFO = _IOWR(SYNC_IOC_MAGIC, 4, sync_file_info);

/** linux/dma-heap.h: a dma-buf of system memory from /dev/dma_heap/NAME. */
export const dma_heap_allocation_data = struct('dma_heap_allocation_data', 24, {
  len: u64(0),
  fd: u32(8),
  fd_flags: u32(12),
  heap_flags: u64(16),
});
export const DMA_HEAP_IOC_MAGIC = 0x48; // 'H'
export const DMA_HEAP_IOCTL_ALLOC = _IOWR(DMA_HEAP_IOC_MAGIC, 0, dma_heap_allocation_data);

/** linux/udmabuf.h: a dma-buf over pages of a memfd that is sealed against shrinking, from /dev/udmabuf. */
export const UDMABUF_FLAGS_CLOEXEC = 0x01;
export const udmabuf_create = struct('udmabuf_create', 24, {
  memfd: u32(0),
  flags: u32(4),
  offset: u64(8),
  size: u64(16),
});
export const UDMABUF_CREATE = _IOW(0x75, 0x42, udmabuf_create); // 'u'
