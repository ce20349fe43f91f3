/**
 * The protocol on the descriptor of a lent dma-buf (rules: docs/dma-buf-socket.md). Every message is one packet of a
 * SOCK_SEQPACKET socket: the header of vfio-user, then one of these structs. The exporter chooses the ids: they count
 * from 1 in each session and are never reused.
 */
import { bytes, packedStruct, u16, u32, u64 } from './layout.ts';
import { POLLIN, POLLOUT } from './poll.ts';

export const DMA_BUF_SOCKET_MAJOR = 1;
export const DMA_BUF_SOCKET_MINOR = 0;

export const DMA_BUF_SOCKET_OPEN = 1; // on the buffer's descriptor, with the importer's own socket
export const DMA_BUF_SOCKET_QUERY = 2;
export const DMA_BUF_SOCKET_SET_NAME = 3;
export const DMA_BUF_SOCKET_ATTACH = 4;
export const DMA_BUF_SOCKET_DETACH = 5;
export const DMA_BUF_SOCKET_MAP = 6;
export const DMA_BUF_SOCKET_UNMAP = 7;
export const DMA_BUF_SOCKET_INVALIDATE = 8; // exporter to importer
export const DMA_BUF_SOCKET_RESTORE = 9; // exporter to importer, no reply
export const DMA_BUF_SOCKET_ADD_FENCE = 10;
export const DMA_BUF_SOCKET_SIGNAL_FENCE = 11;
export const DMA_BUF_SOCKET_WAIT = 12;

/** For messages. */
export const DMA_BUF_SOCKET_COMMAND_NAMES: ReadonlyMap<number, string> = new Map([
  [DMA_BUF_SOCKET_OPEN, 'OPEN'],
  [DMA_BUF_SOCKET_QUERY, 'QUERY'],
  [DMA_BUF_SOCKET_SET_NAME, 'SET_NAME'],
  [DMA_BUF_SOCKET_ATTACH, 'ATTACH'],
  [DMA_BUF_SOCKET_DETACH, 'DETACH'],
  [DMA_BUF_SOCKET_MAP, 'MAP'],
  [DMA_BUF_SOCKET_UNMAP, 'UNMAP'],
  [DMA_BUF_SOCKET_INVALIDATE, 'INVALIDATE'],
  [DMA_BUF_SOCKET_RESTORE, 'RESTORE'],
  [DMA_BUF_SOCKET_ADD_FENCE, 'ADD_FENCE'],
  [DMA_BUF_SOCKET_SIGNAL_FENCE, 'SIGNAL_FENCE'],
  [DMA_BUF_SOCKET_WAIT, 'WAIT'],
]);

/** OPEN, request: one descriptor goes with it. */
export const dma_buf_socket_open = packedStruct('dma_buf_socket_open', 8, {
  major: u16(0),
  minor: u16(2),
  flags: u32(4), // 0
});
/** OPEN, reply, on the session's own socket: the limits of its objects, and the time limit of its answers. */
export const dma_buf_socket_opened = packedStruct('dma_buf_socket_opened', 24, {
  major: u16(0),
  minor: u16(2),
  max_attachments: u32(4),
  max_mappings: u32(8),
  max_fences: u32(12),
  max_requests: u32(16),
  invalidate_timeout_ms: u32(20),
});

/** Bytes of a name with its terminating zero, as in linux/dma-buf.h. */
export const DMA_BUF_SOCKET_NAME_LEN = 32;
/** QUERY, reply. */
export const dma_buf_socket_info = packedStruct('dma_buf_socket_info', 80, {
  size: u64(0),
  flags: u32(8),
  reserved: u32(12),
  exp_name: bytes(16, DMA_BUF_SOCKET_NAME_LEN),
  name: bytes(48, DMA_BUF_SOCKET_NAME_LEN), // all zero if none is set
});
export const DMA_BUF_SOCKET_INFO_REVOKED = 1 << 0;
/** SET_NAME, request. */
export const dma_buf_socket_name = packedStruct('dma_buf_socket_name', 32, {
  name: bytes(0, DMA_BUF_SOCKET_NAME_LEN),
});

/** ATTACH and ADD_FENCE, reply; DETACH and UNMAP, request; INVALIDATE and RESTORE. */
export const dma_buf_socket_id = packedStruct('dma_buf_socket_id', 8, { id: u32(0), reserved: u32(4) });

/** MAP, request. */
export const dma_buf_socket_map = packedStruct('dma_buf_socket_map', 8, { attachment: u32(0), flags: u32(4) });
export const DMA_BUF_SOCKET_MAP_READ = 1 << 0;
export const DMA_BUF_SOCKET_MAP_WRITE = 1 << 1;
/** MAP, reply: nr_ranges of dma_buf_socket_range follow, in the order in which they make up the buffer. */
export const dma_buf_socket_mapped = packedStruct('dma_buf_socket_mapped', 8, { mapping: u32(0), nr_ranges: u32(4) });
export const dma_buf_socket_range = packedStruct('dma_buf_socket_range', 24, {
  fd_offset: u64(0),
  length: u64(8),
  fd_index: u32(16), // index into the reply's descriptors
  reserved: u32(20),
});

/** ADD_FENCE, request; `usage` is enum dma_resv_usage: 0 kernel, 1 write, 2 read, 3 bookkeep. */
export const dma_buf_socket_fence = packedStruct('dma_buf_socket_fence', 8, { attachment: u32(0), usage: u32(4) });
/** SIGNAL_FENCE, request; `error` is 0, or the errno of the work that failed. */
export const dma_buf_socket_signal = packedStruct('dma_buf_socket_signal', 8, { fence: u32(0), error: u32(4) });

/** WAIT, request: for all of `events`, poll(2)'s. The reply has those that hold. */
export const dma_buf_socket_wait = packedStruct('dma_buf_socket_wait', 8, { events: u32(0), timeout_ms: u32(4) });
export const dma_buf_socket_ready = packedStruct('dma_buf_socket_ready', 8, { events: u32(0), reserved: u32(4) });
export const DMA_BUF_SOCKET_POLLIN = POLLIN; // nobody writes any more
export const DMA_BUF_SOCKET_POLLOUT = POLLOUT; // nobody uses it any more
/** timeout_ms: no timeout. */
export const DMA_BUF_SOCKET_FOREVER = 0xffffffff;
