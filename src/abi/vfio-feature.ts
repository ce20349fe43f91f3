import { _IO } from './ioctl.ts';
import { bytes, s32, struct, u32, u64 } from './layout.ts';
import { VFIO_BASE, VFIO_TYPE } from './vfio.ts';

/** linux/vfio.h, VFIO_DEVICE_FEATURE: the envelope, the feature numbers and the payload of each. */
export const VFIO_DEVICE_FEATURE = _IO(VFIO_TYPE, VFIO_BASE + 17);
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 1 << 16;
export const VFIO_DEVICE_FEATURE_SET = 1 << 17;
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18;
/** The header; argsz counts it and the payload that follows. */
export const vfio_device_feature = struct('vfio_device_feature', 8, { argsz: u32(0), flags: u32(4) });

export const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
export const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
export const VFIO_DEVICE_FEATURE_BUS_MASTER = 10;
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;
export const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12;

/** Feature 11, GET: followed by nr_ranges of vfio_region_dma_range; the ioctl returns the dma-buf's fd. */
export const vfio_device_feature_dma_buf = struct('vfio_device_feature_dma_buf', 16, {
  region_index: u32(0),
  open_flags: u32(4),
  flags: u32(8),
  nr_ranges: u32(12),
});
export const vfio_region_dma_range = struct('vfio_region_dma_range', 16, { offset: u64(0), length: u64(8) });

/** Feature 0, SET: 16 bytes without a struct of their own. */
export const VF_TOKEN_SIZE = 16;
export const vf_token = struct('vf_token', VF_TOKEN_SIZE, { uuid: bytes(0, VF_TOKEN_SIZE) });

/** Feature 4, SET: the kernel signals the eventfd when the device wakes for another reason than a user's access. */
export const vfio_device_low_power_entry_with_wakeup = struct('vfio_device_low_power_entry_with_wakeup', 8, {
  wakeup_eventfd: s32(0),
  reserved: u32(4),
});

/** Feature 1, GET. */
export const VFIO_MIGRATION_STOP_COPY = 1 << 0;
export const VFIO_MIGRATION_P2P = 1 << 1;
export const VFIO_MIGRATION_PRE_COPY = 1 << 2;
export const vfio_device_feature_migration = struct('vfio_device_feature_migration', 8, { flags: u64(0) });

/** Feature 2, GET and SET; SET writes data_fd if the new state has a stream, else -1. */
export const vfio_device_feature_mig_state = struct('vfio_device_feature_mig_state', 8, {
  device_state: u32(0),
  data_fd: s32(4),
});
export const VFIO_DEVICE_STATE_ERROR = 0;
export const VFIO_DEVICE_STATE_STOP = 1;
export const VFIO_DEVICE_STATE_RUNNING = 2;
export const VFIO_DEVICE_STATE_STOP_COPY = 3;
export const VFIO_DEVICE_STATE_RESUMING = 4;
export const VFIO_DEVICE_STATE_RUNNING_P2P = 5;
export const VFIO_DEVICE_STATE_PRE_COPY = 6;
export const VFIO_DEVICE_STATE_PRE_COPY_P2P = 7;
export const VFIO_DEVICE_STATE_NR = 8;

/** ioctl of the migration's data_fd while the state is PRE_COPY. */
export const VFIO_MIG_GET_PRECOPY_INFO = _IO(VFIO_TYPE, VFIO_BASE + 21);
export const VFIO_PRECOPY_INFO_REINIT = 1 << 0;
export const vfio_precopy_info = struct('vfio_precopy_info', 24, {
  argsz: u32(0),
  flags: u32(4),
  initial_bytes: u64(8),
  dirty_bytes: u64(16),
});

/** Feature 6, SET: `ranges` points at num_ranges of vfio_device_feature_dma_logging_range. */
export const vfio_device_feature_dma_logging_control = struct('vfio_device_feature_dma_logging_control', 24, {
  page_size: u64(0),
  num_ranges: u32(8),
  __reserved: u32(12),
  ranges: u64(16),
});
export const vfio_device_feature_dma_logging_range = struct('vfio_device_feature_dma_logging_range', 16, {
  iova: u64(0),
  length: u64(8),
});
/** Feature 8, GET: bits are or'ed into the bitmap at the pointer, one per page. */
export const vfio_device_feature_dma_logging_report = struct('vfio_device_feature_dma_logging_report', 32, {
  iova: u64(0),
  length: u64(8),
  page_size: u64(16),
  bitmap: u64(24),
});

/** Feature 9, GET. */
export const vfio_device_feature_mig_data_size = struct('vfio_device_feature_mig_data_size', 8, {
  stop_copy_length: u64(0),
});

/** Feature 10, GET and SET. */
export const VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0;
export const VFIO_DEVICE_FEATURE_SET_MASTER = 1;
export const vfio_device_feature_bus_master = struct('vfio_device_feature_bus_master', 4, { op: u32(0) });
