/** Frames of the vfio-user protocol, and their limits. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import {
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_MASK,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  vfio_user_header,
} from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Pinned } from '../../linux/ffi.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';

/** The limits on what one peer makes the other hold. docs/limits.md has the table, and names a test for each. */
export const LIMITS = {
  /** Bytes of data in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE. */
  maxDataXferBytes: VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  /** Bytes of a whole message: data, the struct in front, the header. */
  maxMessageBytes: VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE + 64,
  /** Descriptors with one message; QEMU refuses servers that say more than 16. */
  maxMsgFds: 16,
  /** DMA regions of a client, and of all clients of the process together. Each takes some 250 bytes. */
  maxDmaMaps: 1 << 19,
  maxDmaMapsOfAll: 1 << 20,
  /**
   * Mappings of this process for a client's files, one for each GiB of a file, and those of all clients together. A
   * process has 65,530 (vm.max_map_count).
   */
  maxFileMappings: 4096,
  maxFileMappingsOfAll: 16_384,
  /** DMA regions of dma-bufs from other processes. Each is a session with the lender. */
  maxBorrowed: 256,
  /** dma-bufs of one device that its present and former clients hold. */
  maxExports: 1024,
  /** dma-bufs of all devices; less where the process may open few files. Each device has its share. */
  maxExportsOfAll: 8192,
  /** Ranges of the dma-bufs of one device that clients hold, and of all devices. */
  maxExportRanges: 262_144,
  maxExportRangesOfAll: 1_048_576,
  /** Connections to a device besides the one that has it. Beyond it, the oldest one without a session is closed. */
  maxWaitingClients: 64,
  /** Descriptors whose close is not over yet, because a file makes its closers wait. */
  maxClosing: 512,
  /** Commands that wait while the server handles another. Reading stops at this number. */
  maxPendingRequests: 64,
  /** Bytes and descriptors that wait with these commands. */
  maxPendingBytes: 4 << 20,
  maxPendingFds: 256,
  /** Milliseconds of one round of the loop that a client gets, before others have their turn. */
  clientRoundMs: 10,
  /** Milliseconds of a round that all clients get together: each has its part. */
  clientRoundMsOfAll: 50,
  /** Bytes of messages that wait for one peer, and for all peers of the process, because they do not read. */
  maxUnsentBytes: 8 << 20,
  maxUnsentBytesOfAll: 128 << 20,
  /** Milliseconds until a client that does not answer a DMA_READ or DMA_WRITE counts as gone. */
  dmaReplyTimeoutMs: 5000,
  /** Milliseconds that a connection may take until its VERSION is complete. */
  handshakeTimeoutMs: 5000,
  /** Lines of the log in one window, about one client for one cause, and about all. */
  maxLogLines: 100,
  maxLogLinesOfAll: 1000,
  logWindowMs: 10_000,
} as const;

/** The decoded fields of a header. */
export interface Frame {
  id: number;
  command: number;
  isReply: boolean;
  noReply: boolean;
  /** Positive errno of an error reply, else 0. */
  error: number;
  /** The bytes after the header. Valid until the connection looks at its next frame. */
  payload: Uint8Array;
  /** The receiver closes the descriptors that it does not keep. */
  fds: OwnedFd[];
  /** Why further descriptors of this message could not be taken. They are closed. */
  fdsError?: Error;
  /** The time of performance.now() when it came; 0 while nobody watches. */
  arrivedMs: number;
}

const header = vfio_user_header.fields;

/** Returns the size of the whole message whose header is at `at`. EMSGSIZE for a bad size, EPROTO for a bad type. */
export function frameBytes(view: DataView, at: number): number {
  const size = header.msg_size.get(view, at);
  const type = header.flags.get(view, at) & VFIO_USER_F_TYPE_MASK;
  if (type > VFIO_USER_F_TYPE_REPLY) throw new Errno('EPROTO', `a message of type ${type}`);
  if (size < VFIO_USER_HEADER_SIZE) throw new Errno('EPROTO', `a message of ${size} bytes is shorter than its header`);
  if (size > LIMITS.maxMessageBytes) {
    throw beyondLimit(
      'maxMessageBytes',
      'EMSGSIZE',
      `a message of ${size} bytes; ${LIMITS.maxMessageBytes} is the most`,
    );
  }
  return size;
}

/** A frame in its receive buffer. It copies nothing, and makes objects only on demand. */
export class ReceivedFrame implements Frame {
  readonly id: number;
  readonly command: number;
  readonly isReply: boolean;
  readonly noReply: boolean;
  readonly error: number;
  readonly fds: OwnedFd[];
  declare fdsError?: Error;
  arrivedMs = 0;
  /** The buffer that holds the frame, and the payload's place in it. */
  readonly view: DataView;
  readonly start: number;
  readonly end: number;
  private readonly buffer: Pinned;

  constructor(buffer: Pinned, at: number, end: number, fds: OwnedFd[]) {
    const { view } = buffer;
    const flags = header.flags.get(view, at);
    this.id = header.msg_id.get(view, at);
    this.command = header.cmd.get(view, at);
    this.isReply = (flags & VFIO_USER_F_TYPE_MASK) === VFIO_USER_F_TYPE_REPLY;
    this.noReply = (flags & VFIO_USER_F_NO_REPLY) !== 0;
    this.error = (flags & VFIO_USER_F_ERROR) === 0 ? 0 : header.error_no.get(view, at) || ERRNO.EIO;
    this.fds = fds;
    this.view = view;
    this.start = at + VFIO_USER_HEADER_SIZE;
    this.end = end;
    this.buffer = buffer;
  }

  /** The bytes of the receive buffer, which has the payload from `start` to `end`. */
  get received(): Uint8Array {
    return this.buffer.bytes;
  }

  /** Not a Buffer, whose `slice` copies nothing. To keep the payload of a request, take a slice of it. */
  get payload(): Uint8Array {
    const { buffer, byteOffset } = this.buffer.bytes;
    return new Uint8Array(buffer, byteOffset + this.start, this.end - this.start);
  }

  get fdNumbers(): number[] {
    return this.fds.map(({ fd }) => fd);
  }

  /** The header and the payload, valid as long as the payload. */
  get whole(): Uint8Array {
    return this.buffer.bytes.subarray(this.start - VFIO_USER_HEADER_SIZE, this.end);
  }

  /** Returns `length` bytes of the payload from `offset`. The caller must know that they are in range. */
  slice(offset: number, length: number): Uint8Array {
    return this.buffer.window.at(this.start + offset, length);
  }
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
