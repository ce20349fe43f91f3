/** Memory that only the client can reach. The server reads and writes it by DMA_READ and DMA_WRITE. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE, vfio_user_dma_region_access } from '../../abi/vfio-user.ts';
import { Pinned } from '../../linux/ffi.ts';
import type { RemoteMemory } from '../../pci/dma.ts';
import { Completion } from '../../task/completion.ts';
import type { Task } from '../../task/op.ts';
import { runner } from '../../task/runner.ts';
import type { Deadline } from '../wire/deadlines.ts';
import type { EventLoop } from '../wire/event-loop.ts';
import { type Frame, LIMITS, writeHeader } from '../wire/frame.ts';

const HEAD = 16 + vfio_user_dma_region_access.sizeof;

/** A DMA_READ or DMA_WRITE that is over. */
export interface DoneDma {
  command: number;
  address: number;
  sizeBytes: number;
  ok: boolean;
  /** How long the client took. */
  ms: number;
}

interface Outstanding {
  readonly command: number;
  readonly replied: Completion;
  readonly address: number;
  readonly into: Uint8Array | null;
  readonly sizeBytes: number;
  deadline: Deadline;
  ok: boolean;
  /** The access has failed already. Its reply is still due, and is ignored when it comes. */
  aborted: boolean;
}

/** Sends `length` bytes of `message` to the client. */
export type SendCommand = (message: Pinned, length: number) => void;

export class ClientMemory implements RemoteMemory {
  private readonly loop: EventLoop;
  private readonly send: SendCommand;
  private readonly onTimeout: () => void;
  private readonly message: Pinned;
  readonly chunkBytes: number;
  private readonly outstanding = new Map<number, Outstanding>();
  private nextId = 0;
  private gone = false;
  /** Called with each answer as it comes, also for an access that was aborted. */
  onDone: ((dma: DoneDma) => void) | null = null;

  /** `chunkBytes` is the client's limit for one message. `onTimeout` is called when the client does not answer. */
  constructor(loop: EventLoop, chunkBytes: number, send: SendCommand, onTimeout: () => void) {
    this.loop = loop;
    this.send = send;
    this.onTimeout = onTimeout;
    this.chunkBytes = Math.max(1, chunkBytes);
    this.message = new Pinned(HEAD + Math.min(this.chunkBytes, 64 * 1024));
  }

  read(address: number, into: Uint8Array): Task<boolean> {
    return this.exchange(VFIO_USER_DMA_READ, address, into, null);
  }

  write(address: number, from: Uint8Array): Task<boolean> {
    return this.exchange(VFIO_USER_DMA_WRITE, address, null, from);
  }

  /** Takes a reply of the client. EPROTO for a reply that is not due, or does not match its command. */
  onReply(frame: Frame): void {
    const waiting = this.outstanding.get(frame.id);
    if (waiting === undefined) throw new Errno('EPROTO', `a reply to message ${frame.id}, which was not sent`);
    if (waiting.aborted) {
      this.forget(frame.id, waiting, frame.error === 0);
      return;
    }
    const access = vfio_user_dma_region_access.sizeof;
    if (frame.error === 0 && waiting.into !== null) {
      if (frame.payload.length !== access + waiting.sizeBytes) {
        throw new Errno(
          'EPROTO',
          `a DMA_READ reply of ${frame.payload.length} bytes for ${waiting.sizeBytes} bytes of data`,
        );
      }
      waiting.into.set(frame.payload.subarray(access));
    }
    this.finish(frame.id, waiting, frame.error === 0);
  }

  /**
   * Fails at once the accesses under way that touch the range. They must not wait for the client: while it waits for
   * the reply to its DMA_UNMAP or RESET, it may be unable to answer. Its replies are still taken, and must come in
   * time.
   */
  abort(address = 0, sizeBytes = Number.POSITIVE_INFINITY): void {
    for (const waiting of this.outstanding.values()) {
      if (waiting.address >= address + sizeBytes || waiting.address + waiting.sizeBytes <= address) continue;
      if (waiting.aborted) continue;
      waiting.aborted = true;
      runner.start('abort DMA', waiting.replied.complete());
    }
  }

  /** Fails every access that waits for the client, which is gone. */
  close(): void {
    this.gone = true;
    for (const [id, waiting] of this.outstanding) {
      if (waiting.aborted) this.forget(id, waiting, false);
      else this.finish(id, waiting, false);
    }
  }

  private *exchange(command: number, address: number, into: Uint8Array | null, from: Uint8Array | null): Task<boolean> {
    if (this.gone) return false;
    const sizeBytes = (into ?? from)!.length;
    const message =
      from === null || HEAD + from.length <= this.message.bytes.length ? this.message : new Pinned(HEAD + from.length);
    const id = this.freeId();
    const payloadBytes = vfio_user_dma_region_access.sizeof + (from?.length ?? 0);
    writeHeader(message.view, id, command, payloadBytes, 0);
    vfio_user_dma_region_access.fields.addr.set(message.view, 16, address);
    vfio_user_dma_region_access.fields.count.set(message.view, 16, sizeBytes);
    if (from !== null) message.bytes.set(from, HEAD);
    const replied = new Completion('DMA reply');
    const deadline = this.loop.after(LIMITS.dmaReplyTimeoutMs, () => this.onTimeout());
    const waiting: Outstanding = { command, replied, address, into, sizeBytes, deadline, ok: false, aborted: false };
    this.outstanding.set(id, waiting);
    this.send(message, HEAD + (from?.length ?? 0));
    // Ended by the client's reply, by `abort`, by the client's end, or by the deadline, which makes it leave.
    yield* replied.wait();
    return waiting.ok;
  }

  private forget(id: number, waiting: Outstanding, ok: boolean): void {
    this.outstanding.delete(id);
    this.loop.cancel(waiting.deadline);
    if (this.onDone === null) return;
    const { command, address, sizeBytes, deadline } = waiting;
    const ms = performance.now() - (deadline.atMs - LIMITS.dmaReplyTimeoutMs);
    this.onDone({ command, address, sizeBytes, ok, ms });
  }

  private finish(id: number, waiting: Outstanding, ok: boolean): void {
    this.forget(id, waiting, ok);
    waiting.ok = ok;
    runner.start('DMA reply', waiting.replied.complete());
  }

  private freeId(): number {
    do this.nextId = (this.nextId + 1) & 0xffff;
    while (this.outstanding.has(this.nextId));
    return this.nextId;
  }
}
