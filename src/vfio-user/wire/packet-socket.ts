/** One end of a packet conversation (docs/dma-buf-socket.md). It never blocks the loop. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN, EPOLLOUT } from '../../abi/poll.ts';
import { MSG_DONTWAIT } from '../../abi/socket.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { hangUp } from '../../linux/foreign-fd.ts';
import { Message } from '../../linux/message.ts';
import { type EventLoop, hungUp } from './event-loop.ts';
import { frameBytes, ReceivedFrame, writeHeader } from './frame.ts';
import { takeFds } from './frame-reader.ts';
import { reasonOf, SendQueue } from './send-queue.ts';
import { NO_BYTES, type Tap } from './tap.ts';

/** Descriptors of one packet. */
const MAX_FDS = 8;

export interface PacketEvents {
  /** Takes a whole message. Its payload is valid until the call returns; the callee owns its descriptors. */
  onPacket(packet: ReceivedFrame): void;
  /** Called for a packet of more than `mostBytes`, which then ends the conversation. */
  onTooLong?(): void;
  /** Called once, last, whichever side ended it; `why` is null when the peer closed in good order. */
  onClose(why: Error | null): void;
}

/** The fields of a header. `error` is a positive errno. */
export interface PacketHeader {
  id: number;
  command: number;
  flags: number;
  error?: number;
}

export class PacketSocket {
  private readonly loop: EventLoop;
  private readonly socket: OwnedFd;
  private readonly events: PacketEvents;
  private readonly tap: Tap | null;
  private readonly key: number;
  private readonly incoming = new Message(1, MAX_FDS);
  /** Reading stops while messages wait here. */
  private readonly outgoing: SendQueue;
  private readonly buffer: Pinned;
  private scratch = new Pinned(256);
  private open = true;

  /** Takes ownership of `socket`. A packet of more than `mostBytes` ends the conversation. */
  constructor(loop: EventLoop, socket: OwnedFd, mostBytes: number, events: PacketEvents, tap: Tap | null = null) {
    this.loop = loop;
    this.socket = socket;
    this.events = events;
    this.tap = tap;
    this.outgoing = new SendQueue(socket, MAX_FDS, (why) => this.close(why));
    // One more byte, so that a truncated packet shows.
    this.buffer = new Pinned(mostBytes + 1);
    this.incoming.setIov(0, this.buffer.address, mostBytes + 1);
    this.key = loop.addPatient(socket.fd, EPOLLIN, (ready) => this.onReady(ready));
  }

  get isOpen(): boolean {
    return this.open;
  }

  /**
   * Sends one message; the descriptors stay the caller's. EMFILE where descriptors must wait and cannot be duplicated.
   */
  send(header: PacketHeader, payload: Uint8Array, fds?: readonly number[]): void {
    if (!this.open) return;
    const length = VFIO_USER_HEADER_SIZE + payload.length;
    if (length > this.scratch.bytes.length) this.scratch = new Pinned(length);
    writeHeader(this.scratch.view, header.id, header.command, payload.length, header.flags, header.error ?? 0);
    this.scratch.bytes.set(payload, VFIO_USER_HEADER_SIZE);
    this.tap?.(true, this.scratch.bytes.subarray(0, length), fds);
    try {
      this.outgoing.send(this.scratch, length, fds);
    } catch (error) {
      if (!(error instanceof Errno) || error.code !== 'ENOBUFS') throw error;
      this.close(error);
    }
    if (this.open && !this.outgoing.isEmpty) this.updateInterest();
  }

  close(why: Error | null): void {
    if (!this.open) return;
    this.open = false;
    this.loop.remove(this.key);
    this.outgoing.close();
    this.incoming.close();
    hangUp(this.socket);
    this.tap?.(false, NO_BYTES);
    this.events.onClose(why);
  }

  private onReady(ready: number): void {
    if ((ready & EPOLLOUT) !== 0) this.flush();
    if (!this.open) return;
    if ((ready & EPOLLIN) !== 0) this.receive();
    else if (hungUp(ready)) this.close(null);
  }

  private flush(): void {
    this.outgoing.flush();
    if (this.open) this.updateInterest();
  }

  private updateInterest(): void {
    this.loop.modify(this.key, this.outgoing.isEmpty ? EPOLLIN : EPOLLOUT);
  }

  private receive(): void {
    const received = this.incoming.recvmsg(this.socket.fd, MSG_DONTWAIT);
    if (received === -ERRNO.EAGAIN) return;
    if (received <= 0) {
      this.close(received === 0 ? null : reasonOf(received, 'receive from the peer'));
      return;
    }
    try {
      const packet = this.parse(received);
      this.tap?.(false, packet.whole, packet.fdNumbers);
      this.events.onPacket(packet);
    } catch (error) {
      this.close(error as Error);
    }
  }

  /** EPROTO for a packet that is not a message, EMSGSIZE for too many descriptors. */
  private parse(received: number): ReceivedFrame {
    const { view, bytes } = this.buffer;
    if (received >= bytes.length) this.events.onTooLong?.();
    const isWhole = received >= VFIO_USER_HEADER_SIZE && received < bytes.length;
    if (!isWhole || frameBytes(view, 0) !== received) throw new Errno('EPROTO', `a packet of ${received} bytes`);
    const fds = this.incoming.hasFds ? takeFds(this.incoming) : [];
    return new ReceivedFrame(this.buffer, 0, received, fds);
  }
}
