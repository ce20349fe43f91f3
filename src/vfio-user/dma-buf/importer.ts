/**
 * The importer's end of a session with the exporter of a dma-buf in another process (docs/dma-buf-socket.md), as tasks
 * on an event loop. BlockingImporter does the same for programs that block.
 */
import {
  DMA_BUF_SOCKET_FOREVER,
  DMA_BUF_SOCKET_INFO_REVOKED,
  DMA_BUF_SOCKET_MAP_READ,
  DMA_BUF_SOCKET_MAP_WRITE,
  dma_buf_socket_name,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno, type ErrnoName } from '../../abi/errno.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Task } from '../../task/op.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { type ExporterAnswer, ExporterCalls, type ImporterEvents, REQUEST_TIMEOUT_MS } from './exporter-calls.ts';
import {
  ADD_FENCE,
  ATTACH,
  DETACH,
  decodeMapped,
  MAP,
  QUERY,
  SET_NAME,
  SIGNAL_FENCE,
  UNMAP,
  WAIT,
} from './messages.ts';

export type { ImporterEvents } from './exporter-calls.ts';

/** What an exporter says of a buffer. */
export interface BufferInfo {
  /** Bytes of the buffer. */
  sizeBytes: number;
  /** Whether the buffer is revoked now. */
  isRevoked: boolean;
  /** The name of the exporter. */
  exporter: string;
  /** Empty without a name. */
  name: string;
}

/** A slice of a file. */
export interface FileSlice {
  /** The file, one of `RemoteRanges.fds`. */
  readonly fd: OwnedFd;
  /** Where the slice starts in the file, in bytes. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly sizeBytes: number;
}

/** Where the bytes of a mapping are: slices of files, end to end. The caller closes the descriptors. */
export interface RemoteRanges {
  /** The id of the mapping, for `unmap`. */
  readonly id: number;
  /** The files of the ranges, each once. */
  readonly fds: readonly OwnedFd[];
  /** The slices in the order of the bytes of the buffer. */
  readonly ranges: readonly FileSlice[];
}

/** An importer in another process than the exporter: one session of docs/dma-buf-socket.md. Its calls are tasks. */
export class DmaBufImporter {
  private readonly calls: ExporterCalls;
  private readonly attachments = new Set<number>();

  /**
   * Opens a session through a descriptor of the buffer. The descriptor stays the caller's, and may be closed
   * afterwards. Run `opened` before any other call. ENOTSOCK for a descriptor that cannot be a lent dma-buf.
   */
  constructor(loop: EventLoop, buffer: number, events: ImporterEvents) {
    this.calls = new ExporterCalls(loop, buffer, events);
  }

  /** False once either side has ended the session. */
  get isOpen(): boolean {
    return this.calls.isOpen;
  }

  /** Waits for the answer to OPEN. ETIMEDOUT without an answer; EMFILE where the exporter takes no more sessions. */
  opened(): Task {
    return this.calls.opened();
  }

  /** Asks for size, state and names of the buffer. */
  *query(): Task<BufferInfo> {
    const info = yield* this.calls.call(QUERY, {});
    const isRevoked = (info.flags & DMA_BUF_SOCKET_INFO_REVOKED) !== 0;
    return { sizeBytes: info.size, isRevoked, exporter: text(info.exp_name), name: text(info.name) };
  }

  /** As DMA_BUF_SET_NAME: at most 31 bytes. */
  *setName(name: string): Task {
    const bytes = Buffer.from(name);
    const { size } = dma_buf_socket_name.fields.name;
    if (bytes.length >= size) throw new Errno('EINVAL', `a name of ${bytes.length} bytes; ${size - 1} are the most`);
    yield* this.calls.call(SET_NAME, { name: bytes });
  }

  /** Returns the attachment's id. ENODEV while the buffer is revoked. */
  *attach(): Task<number> {
    const { id } = yield* this.calls.call(ATTACH, {});
    this.attachments.add(id);
    return id;
  }

  /** Ends the attachment and its mappings. The caller must have let go of them. */
  *detach(attachment: number): Task {
    this.attachments.delete(attachment);
    yield* this.calls.call(DETACH, { id: attachment });
  }

  /** Maps the buffer. ENODEV while it is revoked. */
  *map(attachment: number, writable: boolean): Task<RemoteRanges> {
    const flags = DMA_BUF_SOCKET_MAP_READ | (writable ? DMA_BUF_SOCKET_MAP_WRITE : 0);
    const answer = yield* this.calls.callRaw(MAP, { attachment, flags });
    try {
      return rangesOf(answer);
    } catch (error) {
      for (const fd of answer.fds) fd.close();
      throw error;
    }
  }

  /** Ends a mapping. The caller must have let go of it. */
  *unmap(mapping: number): Task {
    yield* this.calls.call(UNMAP, { id: mapping });
  }

  /** Returns the id of a new fence. Later users of the buffer, and a revoke, wait for it. */
  *addFence(attachment: number, usage: DmaResvUsage): Task<number> {
    return (yield* this.calls.call(ADD_FENCE, { attachment, usage })).id;
  }

  /** Signals a fence of this session, with the errno of work that failed. */
  *signalFence(fence: number, error: ErrnoName | null = null): Task {
    yield* this.calls.call(SIGNAL_FENCE, { fence, error: error === null ? 0 : ERRNO[error] });
  }

  /**
   * Waits until all `events` have happened (POLLIN: nobody writes; POLLOUT: nobody uses the buffer), at most
   * `timeoutMs`. Returns those that have. 0 ms only looks, -1 waits for ever.
   */
  *wait(events: number, timeoutMs: number): Task<number> {
    const timeout_ms = timeoutMs < 0 ? DMA_BUF_SOCKET_FOREVER : timeoutMs;
    const most = timeoutMs < 0 ? null : timeoutMs + REQUEST_TIMEOUT_MS;
    return (yield* this.calls.call(WAIT, { events, timeout_ms }, most)).events;
  }

  /** Ends the session with all its attachments. The caller must have let go of their mappings. */
  close(): void {
    for (const id of this.attachments) this.calls.post(DETACH, { id });
    this.calls.close();
  }
}

function rangesOf({ payload, fds }: ExporterAnswer): RemoteRanges {
  const { mapping, ranges } = decodeMapped(payload);
  return {
    id: mapping,
    fds,
    ranges: ranges.map(({ offset, sizeBytes, fdIndex }, i) => {
      const fd = fds[fdIndex];
      if (fd === undefined) throw new Errno('EPROTO', `range ${i} is in descriptor ${fdIndex}, which did not come`);
      return { fd, offset, sizeBytes };
    }),
  };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString();
}
