/**
 * The importer's end of a session with the exporter of a dma-buf in another process (docs/dma-buf-socket.md), as tasks
 * on an event loop. BlockingImporter is the same for programs that block.
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

export interface BufferInfo {
  sizeBytes: number;
  /** The exporter lends nothing at the moment. */
  isRevoked: boolean;
  exporter: string;
  /** Empty where none was set. */
  name: string;
}

/** Where the bytes of a mapping are: slices of files, end to end. The descriptors are the caller's to close. */
export interface RemoteRanges {
  readonly id: number;
  readonly fds: readonly OwnedFd[];
  readonly ranges: readonly { fd: OwnedFd; offset: number; sizeBytes: number }[];
}

export class DmaBufImporter {
  private readonly calls: ExporterCalls;
  private readonly attachments = new Set<number>();

  /**
   * Opens a session through a descriptor of the buffer, which stays the caller's and is not needed any more. ENOTSOCK
   * for a descriptor that cannot be a lent dma-buf. `opened` must be run before anything else.
   */
  constructor(loop: EventLoop, buffer: number, events: ImporterEvents) {
    this.calls = new ExporterCalls(loop, buffer, events);
  }

  get isOpen(): boolean {
    return this.calls.isOpen;
  }

  /** Waits for the answer to OPEN. ETIMEDOUT where nobody answers; EMFILE where the exporter takes no more. */
  opened(): Task {
    return this.calls.opened();
  }

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

  /** Ends the attachment's mappings too: the caller has let go of them. */
  *detach(attachment: number): Task {
    this.attachments.delete(attachment);
    yield* this.calls.call(DETACH, { id: attachment });
  }

  /** ENODEV while the buffer is revoked. */
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

  /** The caller has let go of the mapping. */
  *unmap(mapping: number): Task {
    yield* this.calls.call(UNMAP, { id: mapping });
  }

  /** Returns the id of a new fence that later users of the buffer, and a revoke, wait for. */
  *addFence(attachment: number, usage: DmaResvUsage): Task<number> {
    return (yield* this.calls.call(ADD_FENCE, { attachment, usage })).id;
  }

  *signalFence(fence: number, error: ErrnoName | null = null): Task {
    yield* this.calls.call(SIGNAL_FENCE, { fence, error: error === null ? 0 : ERRNO[error] });
  }

  /**
   * Waits until `events` (POLLIN: nobody writes; POLLOUT: nobody uses the buffer) are all there; returns those that are
   * when the time is over. 0 ms only looks, -1 waits for ever.
   */
  *wait(events: number, timeoutMs: number): Task<number> {
    const timeout_ms = timeoutMs < 0 ? DMA_BUF_SOCKET_FOREVER : timeoutMs;
    const most = timeoutMs < 0 ? null : timeoutMs + REQUEST_TIMEOUT_MS;
    return (yield* this.calls.call(WAIT, { events, timeout_ms }, most)).events;
  }

  /** Ends the session, and with it all attachments, whose mappings the caller has let go of. */
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
