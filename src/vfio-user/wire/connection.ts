/** A connection's byte stream: cuts it into frames with their descriptors, and sends without blocking the loop. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../abi/poll.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Pinned } from '../../linux/ffi.ts';
import { hangUp } from '../../linux/foreign-fd.ts';
import { PeekedBytes } from '../../linux/peeked-bytes.ts';
import { pollOne } from '../../linux/poll.ts';
import { runner } from '../../task/runner.ts';
import { type EventLoop, hungUp } from './event-loop.ts';
import { LIMITS, type ReceivedFrame } from './frame.ts';
import { FrameReader } from './frame-reader.ts';
import { SendQueue } from './send-queue.ts';
import { NO_BYTES, type Tap } from './tap.ts';

/** Reads in a row before other connections have their turn. */
const MAX_READS = 16;
/** After an extra read found nothing, the number of messages before the next extra read. */
const LOOK_AGAIN_AFTER = 4;

export interface ConnectionEvents {
  /** Takes a whole message and owns its descriptors. Returns whether its payload is still in use after the call. */
  onFrame(frame: ReceivedFrame): boolean;
  /**
   * Called once, last, whichever side ended it; `why` is null when the peer closed in good order. The socket stays open
   * until `hangUp`. Its end tells a waiting peer that everything is given back.
   */
  onClose(why: Error | null): void;
  /** Called when a peer that was slow to take its replies has taken them all. */
  onDrained?(): void;
}

export class Connection {
  private readonly loop: EventLoop;
  private readonly socket: OwnedFd;
  private readonly events: ConnectionEvents;
  private readonly tap: Tap | null;
  private readonly key: number;
  private readonly frames = new FrameReader();
  private readonly peeked: PeekedBytes;
  /** Whether the loop is to call when it is quiet. Then no bytes stay in the socket for long. */
  private askedForQuiet = false;
  private unlucky = 0;
  /** Reading stops while messages wait here. */
  private readonly outgoing: SendQueue;
  private paused = false;
  private open = true;
  private cutting = false;

  /** Takes ownership of `socket`. */
  constructor(loop: EventLoop, socket: OwnedFd, events: ConnectionEvents, tap: Tap | null = null) {
    this.loop = loop;
    this.socket = socket;
    this.events = events;
    this.tap = tap;
    this.peeked = new PeekedBytes(socket);
    this.outgoing = new SendQueue(socket, LIMITS.maxMsgFds, (why) => this.close(why));
    // Peeked bytes keep the socket ready at all times: only new bytes count (EPOLLET).
    this.key = loop.add(socket.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, (ready) => this.onReady(ready));
  }

  get isOpen(): boolean {
    return this.open;
  }

  /** Whether the peer has closed its end. Only bytes that it sent before can still come. */
  get isLeaving(): boolean {
    return !this.open || (pollOne(this.socket.fd, EPOLLRDHUP, 0) & (EPOLLRDHUP | EPOLLHUP)) !== 0;
  }

  /** Pauses or resumes reading. While paused, the connection hands no frame on. */
  setPaused(paused: boolean): void {
    if (this.paused === paused || !this.open) return;
    this.paused = paused;
    this.updateInterest();
    if (!paused) this.cut();
  }

  /** Whether replies wait because the peer does not take them. */
  get isClogged(): boolean {
    return !this.outgoing.isEmpty;
  }

  /** Sends the first `length` bytes of `message`, now or later, in order. The descriptors stay the caller's. */
  send(message: Pinned, length: number, fds?: readonly number[]): void {
    if (!this.open) return;
    if (this.tap !== null) this.tap(true, message.bytes.subarray(0, length), fds);
    try {
      this.outgoing.send(message, length, fds);
    } catch (error) {
      // This reply is lost, and the client can no longer match replies to requests.
      this.close(error as Error);
      return;
    }
    if (!this.outgoing.isEmpty) this.updateInterest();
  }

  close(why: Error | null): void {
    if (!this.open) return;
    this.open = false;
    this.loop.remove(this.key);
    this.takeOut();
    this.outgoing.close();
    this.frames.close();
    if (why !== null) this.hangUp();
    this.tap?.(false, NO_BYTES);
    this.events.onClose(why);
  }

  /** Closes the socket. Call it after `onClose`. */
  hangUp(): void {
    if (this.socket.isOpen) hangUp(this.socket);
  }

  private updateInterest(): void {
    const reads = this.mayReceive ? EPOLLIN | EPOLLRDHUP : 0;
    this.loop.modify(this.key, reads | (this.isClogged ? EPOLLOUT : 0) | EPOLLET);
  }

  private onReady(ready: number): void {
    if ((ready & EPOLLOUT) !== 0) this.flush();
    if (!this.open) return;
    if ((ready & EPOLLIN) !== 0) this.receive((ready & EPOLLRDHUP) !== 0 || hungUp(ready));
    else if (hungUp(ready)) this.close(null);
  }

  private flush(): void {
    this.outgoing.flush();
    if (!this.open || this.isClogged) return;
    this.updateInterest();
    this.events.onDrained?.();
    this.cut();
  }

  /**
   * Reads everything, because the loop reports it only once. For a peer that is `leaving`, the end of the stream
   * follows. A peer may take its reply and ask again at once. Extra reads find such requests without the loop, as long
   * as they succeed.
   */
  private receive(leaving: boolean): void {
    let must = true;
    for (let reads = 0; reads < MAX_READS; reads++) {
      if (!must && !this.mayLookAgain()) return;
      if (!this.receiveOnce()) {
        if (!must) this.unlucky = LOOK_AGAIN_AFTER;
        return;
      }
      this.cut();
      if (!this.mayReceive) return;
      must = leaving || this.frames.mayHaveMore;
    }
    if (must) this.updateInterest();
  }

  private mayLookAgain(): boolean {
    if (this.unlucky > 0) {
      this.unlucky -= 1;
      return false;
    }
    return runner.isIdle;
  }

  /** The end of a pause makes the loop look at the socket again. */
  private get mayReceive(): boolean {
    return this.open && !this.paused && this.outgoing.isEmpty;
  }

  /** Reads once. False when the socket was empty or at its end. */
  private receiveOnce(): boolean {
    let received: number;
    try {
      received = this.frames.receive(this.socket.fd, false, this.peeked);
      if (!this.askedForQuiet && !this.peeked.isEmpty) this.askForQuiet();
    } catch (error) {
      this.close(error as Error);
      return false;
    }
    if (received > 0) return true;
    if (received === -ERRNO.EAGAIN) return false;
    const cut = received === 0 && this.frames.isMidMessage;
    const broken = received < 0 && received !== -ERRNO.ECONNRESET;
    this.close(cut || broken ? new Errno('ECONNRESET', 'the peer left in the middle of a message') : null);
    return false;
  }

  private askForQuiet(): void {
    this.askedForQuiet = true;
    this.loop.whenQuiet(() => {
      this.askedForQuiet = false;
      if (this.open) this.takeOut();
    });
  }

  private takeOut(): void {
    try {
      this.peeked.takeOut();
    } catch (error) {
      this.close(error as Error);
    }
  }

  /** Hands on every complete frame until it is paused or the peer stops taking its replies. */
  private cut(): void {
    if (this.cutting) return;
    this.cutting = true;
    try {
      while (this.mayReceive) {
        const frame = this.frames.next();
        if (frame === null) break;
        if (this.tap !== null) this.tap(false, frame.whole, frame.fdNumbers);
        if (this.events.onFrame(frame)) this.frames.keepLast();
      }
    } catch (error) {
      this.close(error as Error);
    } finally {
      this.cutting = false;
    }
  }
}
