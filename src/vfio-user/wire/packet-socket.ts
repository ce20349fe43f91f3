/** One end of a conversation in packets (docs/dma-buf-socket.md): a message is a packet, and never blocks the loop. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN, EPOLLOUT } from '../../abi/poll.ts';
import { MSG_DONTWAIT } from '../../abi/socket.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import { duplicateAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { hangUp } from '../../linux/foreign-fd.ts';
import { Message } from '../../linux/message.ts';
import { type EventLoop, hungUp } from './event-loop.ts';
import { frameBytes, ReceivedFrame, writeHeader } from './frame.ts';
import { takeFds } from './frame-reader.ts';

/** Descriptors with one packet. */
const MAX_FDS = 8;
/** Packets that a peer which does not read may leave here. */
const MAX_UNSENT = 256;

export interface PacketEvents {
  /** A whole message; its payload is good until the call returns, its descriptors are the callee's. */
  onPacket(packet: ReceivedFrame): void;
  /** Called once, last, whichever side ended it; `why` is null when the peer closed in good order. */
  onClose(why: Error | null): void;
}

/** What goes into a header. `error` is a positive errno. */
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
  private readonly key: number;
  private readonly incoming = new Message(1, MAX_FDS);
  private readonly outgoing = new Message(1, MAX_FDS);
  private readonly buffer: Pinned;
  private scratch = new Pinned(256);
  /** What a full socket did not take; while there is some, nothing is read. */
  private unsent: { bytes: Buffer; fds: readonly OwnedFd[] }[] = [];
  private open = true;

  /** Takes ownership of `socket`. A packet of more than `mostBytes` ends the conversation. */
  constructor(loop: EventLoop, socket: OwnedFd, mostBytes: number, events: PacketEvents) {
    this.loop = loop;
    this.socket = socket;
    this.events = events;
    // One more, so that a packet which was cut shows.
    this.buffer = new Pinned(mostBytes + 1);
    this.incoming.setIov(0, this.buffer.address, mostBytes + 1);
    this.key = loop.add(socket.fd, EPOLLIN, (ready) => this.onReady(ready));
  }

  get isOpen(): boolean {
    return this.open;
  }

  /** Sends one message; the descriptors stay the caller's. Throws EMFILE where one must wait and cannot be kept. */
  send(header: PacketHeader, payload: Uint8Array, fds: readonly number[] = NO_FDS): void {
    if (!this.open) return;
    const length = VFIO_USER_HEADER_SIZE + payload.length;
    if (length > this.scratch.bytes.length) this.scratch = new Pinned(length);
    writeHeader(this.scratch.view, header.id, header.command, payload.length, header.flags, header.error ?? 0);
    this.scratch.bytes.set(payload, VFIO_USER_HEADER_SIZE);
    if (this.unsent.length === 0 && this.sendNow(this.scratch, length, fds)) return;
    if (!this.open) return;
    this.unsent.push({
      bytes: Buffer.from(this.scratch.bytes.subarray(0, length)),
      fds: duplicateAll(fds, 'descriptor to send'),
    });
    if (this.unsent.length > MAX_UNSENT) this.close(new Errno('ENOBUFS', `${MAX_UNSENT} messages are not read`));
    else this.updateInterest();
  }

  close(why: Error | null): void {
    if (!this.open) return;
    this.open = false;
    this.loop.remove(this.key);
    for (const { fds } of this.unsent.splice(0)) for (const fd of fds) fd.close();
    this.incoming.close();
    hangUp(this.socket);
    this.events.onClose(why);
  }

  /** Whether the packet is out, or will never be; false where the socket is full. */
  private sendNow(bytes: Pinned, length: number, fds: readonly number[]): boolean {
    this.outgoing.setIov(0, bytes.address, length);
    const sent = this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, fds);
    if (sent === length) return true;
    if (sent === -ERRNO.EAGAIN) return false;
    this.close(isGone(sent) ? null : Errno.fromCode(-sent, 'send to the peer'));
    return true;
  }

  private onReady(ready: number): void {
    if ((ready & EPOLLOUT) !== 0) this.flush();
    if (!this.open) return;
    if ((ready & EPOLLIN) !== 0) this.receive();
    else if (hungUp(ready)) this.close(null);
  }

  private flush(): void {
    for (let next = this.unsent[0]; next !== undefined; next = this.unsent[0]) {
      const copy = new Pinned(next.bytes.length);
      copy.bytes.set(next.bytes);
      const fds = next.fds.map((fd) => fd.fd);
      if (!this.sendNow(copy, next.bytes.length, fds) || !this.open) return;
      for (const fd of next.fds) fd.close();
      this.unsent.shift();
    }
    this.updateInterest();
  }

  private updateInterest(): void {
    this.loop.modify(this.key, this.unsent.length === 0 ? EPOLLIN : EPOLLOUT);
  }

  private receive(): void {
    const received = this.incoming.recvmsg(this.socket.fd, MSG_DONTWAIT);
    if (received === -ERRNO.EAGAIN) return;
    if (received <= 0) {
      this.close(received === 0 || isGone(received) ? null : Errno.fromCode(-received, 'receive from the peer'));
      return;
    }
    try {
      this.events.onPacket(this.parse(received));
    } catch (error) {
      this.close(error as Error);
    }
  }

  /** EPROTO for what is no message, EMSGSIZE for one with more descriptors than there is room for. */
  private parse(received: number): ReceivedFrame {
    const { view, bytes } = this.buffer;
    const isWhole = received >= VFIO_USER_HEADER_SIZE && received < bytes.length;
    if (!isWhole || frameBytes(view, 0) !== received) throw new Errno('EPROTO', `a packet of ${received} bytes`);
    const fds = this.incoming.hasFds ? takeFds(this.incoming) : [];
    return new ReceivedFrame(this.buffer, 0, received, fds);
  }
}

const NO_FDS: readonly number[] = [];

function isGone(result: number): boolean {
  return result === -ERRNO.EPIPE || result === -ERRNO.ECONNRESET;
}
