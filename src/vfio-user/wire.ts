/** Frames of the vfio-user protocol, and how large the things in them may get. */
import { ERRNO, Errno } from '../abi/errno.ts';
import {
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  vfio_user_header,
} from '../abi/vfio-user.ts';
import type { OwnedFd } from '../linux/fd.ts';

/** What one peer may make the other hold. docs/vfio-user.md has the table, and test/vfio-user/limits.test.ts a test each. */
export const LIMITS = {
  /** Bytes of data in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE. */
  maxDataXferBytes: VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  /** Bytes of a whole message: data, the struct in front, the header. */
  maxMessageBytes: VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE + 64,
  /** Descriptors with one message; QEMU refuses servers that say more than 16. */
  maxMsgFds: 16,
  maxDmaMaps: 65535,
  /** Of those, the ones that came with a descriptor and are mapped: a process has 65530 mappings (vm.max_map_count). */
  maxMappedRegions: 16384,
  /** All clients of the process together. */
  maxMappedRegionsOfAll: 49152,
  /** DMA regions of files that might shrink, or of more than 1 GiB: each keeps its descriptor. */
  maxFileRegions: 256,
  /** dma-bufs that one client holds open. */
  maxExports: 1024,
  /** Commands that wait while one is being served; reading stops there. */
  maxPendingRequests: 64,
  /** Bytes that wait with them, and descriptors. */
  maxPendingBytes: 4 << 20,
  maxPendingFds: 256,
  /** Milliseconds until a client that does not answer a DMA_READ or DMA_WRITE counts as gone. */
  dmaReplyTimeoutMs: 5000,
  /** Milliseconds that a connection may take until its VERSION is complete. */
  handshakeTimeoutMs: 5000,
} as const;

/** The fields of a header, in plain words. */
export interface Frame {
  id: number;
  command: number;
  isReply: boolean;
  noReply: boolean;
  /** Positive errno of an error reply, else 0. */
  error: number;
  /** What follows the header. Good until the next frame of the connection is looked at. */
  payload: Uint8Array;
  /** Whoever gets the frame closes what it does not keep. */
  fds: OwnedFd[];
}

const header = vfio_user_header.fields;

/** Bytes of the whole message whose header is at `at`. EMSGSIZE or EPROTO for a size or a type that cannot be. */
export function frameBytes(view: DataView, at: number): number {
  const size = header.msg_size.get(view, at);
  const type = header.flags.get(view, at) & VFIO_USER_F_TYPE_MASK;
  if (type > VFIO_USER_F_TYPE_REPLY) throw new Errno('EPROTO', `a message of type ${type}`);
  if (size < VFIO_USER_HEADER_SIZE) throw new Errno('EPROTO', `a message of ${size} bytes is shorter than its header`);
  if (size > LIMITS.maxMessageBytes) {
    throw new Errno('EMSGSIZE', `a message of ${size} bytes; ${LIMITS.maxMessageBytes} is the most`);
  }
  return size;
}

export function readFrame(bytes: Uint8Array, view: DataView, at: number, fds: OwnedFd[]): Frame {
  const flags = header.flags.get(view, at);
  return {
    id: header.msg_id.get(view, at),
    command: header.cmd.get(view, at),
    isReply: (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY,
    noReply: (flags & VFIO_USER_F_NO_REPLY) !== 0,
    error: (flags & VFIO_USER_F_ERROR) === 0 ? 0 : header.error_no.get(view, at) || ERRNO.EIO,
    payload: bytes.subarray(at + VFIO_USER_HEADER_SIZE, at + header.msg_size.get(view, at)),
    fds,
  };
}

/** Writes a header in front of `payloadBytes` bytes. */
export function writeHeader(
  view: DataView,
  id: number,
  command: number,
  payloadBytes: number,
  flags: number,
  error = 0,
): void {
  header.msg_id.set(view, 0, id);
  header.cmd.set(view, 0, command);
  header.msg_size.set(view, 0, VFIO_USER_HEADER_SIZE + payloadBytes);
  header.flags.set(view, 0, flags | (error === 0 ? 0 : VFIO_USER_F_ERROR));
  header.error_no.set(view, 0, error);
}
