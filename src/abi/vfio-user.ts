import { packedStruct, u16, u32, u64 } from './layout.ts';

/**
 * The vfio-user protocol (QEMU, docs/interop/vfio-user.rst): commands, header flags, and the message structs that
 * linux/vfio.h does not have. GET_INFO, GET_REGION_INFO, GET_IRQ_INFO, SET_IRQS and DEVICE_FEATURE carry the kernel's
 * structs (vfio.ts, vfio-feature.ts), except that vfio_user_device_info ends before cap_offset. Offsets are from the
 * end of the header. Sizes on the wire are exact, so these structs count as packed.
 */
export const VFIO_USER_VERSION = 1;
export const VFIO_USER_DMA_MAP = 2;
export const VFIO_USER_DMA_UNMAP = 3;
export const VFIO_USER_DEVICE_GET_INFO = 4;
export const VFIO_USER_DEVICE_GET_REGION_INFO = 5;
export const VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6;
export const VFIO_USER_DEVICE_GET_IRQ_INFO = 7;
export const VFIO_USER_DEVICE_SET_IRQS = 8;
export const VFIO_USER_REGION_READ = 9;
export const VFIO_USER_REGION_WRITE = 10;
export const VFIO_USER_DMA_READ = 11; // server to client
export const VFIO_USER_DMA_WRITE = 12; // server to client
export const VFIO_USER_DEVICE_RESET = 13;
/** Removed from the protocol; the number stays reserved. */
export const VFIO_USER_DIRTY_PAGES = 14;
export const VFIO_USER_REGION_WRITE_MULTI = 15;
export const VFIO_USER_DEVICE_FEATURE = 16;
export const VFIO_USER_MIG_DATA_READ = 17;
export const VFIO_USER_MIG_DATA_WRITE = 18;

/** For messages. */
export const VFIO_USER_COMMAND_NAMES: ReadonlyMap<number, string> = new Map([
  [VFIO_USER_VERSION, 'VERSION'],
  [VFIO_USER_DMA_MAP, 'DMA_MAP'],
  [VFIO_USER_DMA_UNMAP, 'DMA_UNMAP'],
  [VFIO_USER_DEVICE_GET_INFO, 'DEVICE_GET_INFO'],
  [VFIO_USER_DEVICE_GET_REGION_INFO, 'DEVICE_GET_REGION_INFO'],
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS, 'DEVICE_GET_REGION_IO_FDS'],
  [VFIO_USER_DEVICE_GET_IRQ_INFO, 'DEVICE_GET_IRQ_INFO'],
  [VFIO_USER_DEVICE_SET_IRQS, 'DEVICE_SET_IRQS'],
  [VFIO_USER_REGION_READ, 'REGION_READ'],
  [VFIO_USER_REGION_WRITE, 'REGION_WRITE'],
  [VFIO_USER_DMA_READ, 'DMA_READ'],
  [VFIO_USER_DMA_WRITE, 'DMA_WRITE'],
  [VFIO_USER_DEVICE_RESET, 'DEVICE_RESET'],
  [VFIO_USER_REGION_WRITE_MULTI, 'REGION_WRITE_MULTI'],
  [VFIO_USER_DEVICE_FEATURE, 'DEVICE_FEATURE'],
  [VFIO_USER_MIG_DATA_READ, 'MIG_DATA_READ'],
  [VFIO_USER_MIG_DATA_WRITE, 'MIG_DATA_WRITE'],
]);

/** Section "Header". `size` counts the header. An error reply is only the header, with a positive errno. */
export const vfio_user_header = packedStruct('vfio_user_header', 16, {
  msg_id: u16(0),
  cmd: u16(2),
  msg_size: u32(4),
  flags: u32(8),
  error_no: u32(12),
});
export const VFIO_USER_HEADER_SIZE = vfio_user_header.sizeof;
export const VFIO_USER_F_TYPE_MASK = 0xf;
export const VFIO_USER_F_TYPE_COMMAND = 0;
export const VFIO_USER_F_TYPE_REPLY = 1;
export const VFIO_USER_F_NO_REPLY = 0x10;
export const VFIO_USER_F_ERROR = 0x20;

/** VERSION: followed by JSON and its terminating zero; the JSON may be missing. */
export const vfio_user_version = packedStruct('vfio_user_version', 4, { major: u16(0), minor: u16(2) });
export const VFIO_USER_MAJOR = 0;
export const VFIO_USER_MINOR = 0;
/** Capabilities of the version JSON, and the defaults for a peer that does not name them. */
export const VFIO_USER_CAP_MAX_MSG_FDS = 'max_msg_fds';
export const VFIO_USER_CAP_MAX_DATA_XFER_SIZE = 'max_data_xfer_size';
export const VFIO_USER_CAP_MAX_DMA_MAPS = 'max_dma_maps';
export const VFIO_USER_CAP_PGSIZES = 'pgsizes';
export const VFIO_USER_CAP_TWIN_SOCKET = 'twin_socket';
/** Members of twin_socket. The reply carries the index of a descriptor in the message. */
export const VFIO_USER_CAP_TWIN_SOCKET_SUPPORTED = 'supported';
export const VFIO_USER_CAP_TWIN_SOCKET_FD_INDEX = 'fd_index';
/** No longer in the document, but QEMU and rust-vmm's client propose it. */
export const VFIO_USER_CAP_MIGRATION = 'migration';
export const VFIO_USER_CAP_PGSIZE = 'pgsize';
export const VFIO_USER_CAP_MAX_BITMAP_SIZE = 'max_bitmap_size';
export const VFIO_USER_CAP_WRITE_MULTIPLE = 'write_multiple';
export const VFIO_USER_DEFAULT_MAX_MSG_FDS = 1;
export const VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE = 1 << 20;
export const VFIO_USER_DEFAULT_MAX_DMA_MAPS = 65535;
export const VFIO_USER_DEFAULT_PGSIZES = 4096;

/** DMA_MAP: one fd if the memory is fd-backed, none if the server reaches it by DMA_READ and DMA_WRITE. */
export const VFIO_USER_F_DMA_REGION_READ = 1 << 0;
export const VFIO_USER_F_DMA_REGION_WRITE = 1 << 1;
/** The uses of the descriptor; in libvfio-user's header since its pull request 842. */
export const VFIO_USER_F_DMA_REGION_MMAP = 1 << 2;
export const VFIO_USER_F_DMA_REGION_FILE_IO = 1 << 3;
export const vfio_user_dma_map = packedStruct('vfio_user_dma_map', 32, {
  argsz: u32(0),
  flags: u32(4),
  offset: u64(8), // in the file
  addr: u64(16),
  size: u64(24),
});
/** DMA_UNMAP: the reply carries the same struct. */
export const vfio_user_dma_unmap = packedStruct('vfio_user_dma_unmap', 24, {
  argsz: u32(0),
  flags: u32(4),
  addr: u64(8),
  size: u64(16),
});

/** GET_INFO: 16 bytes today; QEMU asks with argsz 16 and sends a message of 32. */
export const vfio_user_device_info = packedStruct('vfio_user_device_info', 16, {
  argsz: u32(0),
  flags: u32(4),
  num_regions: u32(8),
  num_irqs: u32(12),
});

/** GET_REGION_IO_FDS: followed in the reply by count of vfio_user_sub_region_ioeventfd (or ioregionfd). */
export const vfio_user_region_io_fds = packedStruct('vfio_user_region_io_fds', 16, {
  argsz: u32(0),
  flags: u32(4),
  index: u32(8),
  count: u32(12),
});
export const VFIO_USER_IO_FD_TYPE_IOEVENTFD = 0;
export const VFIO_USER_IO_FD_TYPE_IOREGIONFD = 1;
/**
 * `datamatch` is `user_data` for an ioregionfd. `fd_index` is an index into the reply's descriptors; several entries
 * may share one.
 */
export const vfio_user_sub_region_ioeventfd = packedStruct('vfio_user_sub_region_ioeventfd', 40, {
  offset: u64(0),
  size: u64(8),
  fd_index: u32(16),
  type: u32(20),
  flags: u32(24),
  padding: u32(28),
  datamatch: u64(32),
});
/** linux/kvm.h, for `flags` above. */
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1 << 0;
export const KVM_IOEVENTFD_FLAG_PIO = 1 << 1;

/** REGION_READ and REGION_WRITE, request and reply; data follow in a write's request and in a read's reply. */
export const vfio_user_region_access = packedStruct('vfio_user_region_access', 16, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
});

/** DMA_READ and DMA_WRITE, request and reply; data follow in a write's request and in a read's reply. */
export const vfio_user_dma_region_access = packedStruct('vfio_user_dma_region_access', 16, {
  addr: u64(0),
  count: u64(8),
});

/**
 * REGION_WRITE_MULTI: wr_cnt of vfio_user_write_one follow; the reply has only wr_cnt, the number of completed writes.
 */
export const vfio_user_region_write_multi = packedStruct('vfio_user_region_write_multi', 8, { wr_cnt: u64(0) });
export const VFIO_USER_MULTI_DATA = 8;
/** The most writes that QEMU puts in one message. */
export const VFIO_USER_MULTI_MAX = 200;
export const vfio_user_write_one = packedStruct('vfio_user_write_one', 24, {
  offset: u64(0),
  region: u32(8),
  count: u32(12),
  data: u64(16), // the first `count` bytes of these eight, as stored
});

/** DMA_LOGGING_START inside DEVICE_FEATURE: ranges follow in line; the kernel's struct has a pointer instead. */
export const vfio_user_device_feature_dma_logging_control = packedStruct(
  'vfio_user_device_feature_dma_logging_control',
  16,
  { page_size: u64(0), num_ranges: u32(8), reserved: u32(12) },
);
/** DMA_LOGGING_REPORT inside DEVICE_FEATURE: in the reply the bitmap follows it. */
export const vfio_user_device_feature_dma_logging_report = packedStruct(
  'vfio_user_device_feature_dma_logging_report',
  24,
  { iova: u64(0), length: u64(8), page_size: u64(16) },
);

/** MIG_DATA_READ and MIG_DATA_WRITE; data follow in a write's request and in a read's reply. */
export const vfio_user_mig_data = packedStruct('vfio_user_mig_data', 8, { argsz: u32(0), size: u32(4) });

/**
 * Barter's own: the two hot-reset ioctls, which the protocol lacks. They carry the structs of linux/vfio.h. The caller
 * proves that it owns the other devices of the set: it must hold their connections from the same process. The numbers
 * are far from those of the protocol, and other servers refuse them.
 */
export const VFIO_USER_X_GET_PCI_HOT_RESET_INFO = 0x8001;
export const VFIO_USER_X_PCI_HOT_RESET = 0x8002;
