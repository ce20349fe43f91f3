/** A connection's bytes: cut into frames with their descriptors, and sent without ever blocking the loop. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../abi/poll.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL } from '../../abi/socket.ts';
import { duplicateAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned, sys } from '../../linux/ffi.ts';
import { hangUp } from '../../linux/foreign-fd.ts';
import { Message } from '../../linux/message.ts';
import { PeekedBytes } from '../../linux/peeked-bytes.ts';
import { runner } from '../../task/runner.ts';
import { type EventLoop, hungUp } from './event-loop.ts';
import { LIMITS, type ReceivedFrame } from './frame.ts';
import { FrameReader } from './frame-reader.ts';

/** So many reads in one go; then others have their turn. */
const MAX_READS = 16;
/** After a look for nothing, so many messages go by until the next one that nobody asked for. */
const LOOK_AGAIN_AFTER = 4;

export interface ConnectionEvents {
  /** A whole message; its descriptors are the callee's. Returns whether its payload is still in use after the call. */
  onFrame(frame: ReceivedFrame): boolean;
  /**
   * Called once, last, whichever side ended it; `why` is null when the peer closed in good order. Then the socket stays
   * until `hangUp`: a peer that waits for the end of the stream learns by it that all is over.
   */
  onClose(why: Error | null): void;
}

export class Connection {
  private readonly loop: EventLoop;
  private readonly socket: OwnedFd;
  private readonly events: ConnectionEvents;
  private readonly key: number;
  private readonly frames = new FrameReader();
  private readonly left: PeekedBytes;
  /** The loop was asked to say when all is quiet, so that nothing is left in the socket for long. */
  private asked = false;
  private unlucky = 0;
  private readonly outgoing = new Message(1, LIMITS.maxMsgFds);
  /** What a full socket did not take; while there is some, nothing is read. */
  private unsent: { bytes: Buffer; fds: readonly OwnedFd[] }[] = [];
  private paused = false;
  private open = true;
  private cutting = false;

  /** Takes ownership of `socket`. */
  constructor(loop: EventLoop, socket: OwnedFd, events: ConnectionEvents) {
    this.loop = loop;
    this.socket = socket;
    this.events = events;
    this.left = new PeekedBytes(socket);
    // With what is left in it the socket is always ready: only what arrives counts (EPOLLET).
    this.key = loop.add(socket.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, (ready) => this.onReady(ready));
  }

  get isOpen(): boolean {
    return this.open;
  }

  /** Stops or goes on reading; while paused no frame is handed on. */
  setPaused(paused: boolean): void {
    if (this.paused === paused || !this.open) return;
    this.paused = paused;
    this.updateInterest();
    if (!paused) this.cut();
  }

  /**
   * Sends the first `length` bytes of `message`, with descriptors that stay the caller's. What the socket does not
   * take is copied and sent later, in order.
   */
  send(message: Pinned, length: number, fds: readonly number[] = NO_FDS): void {
    if (!this.open) return;
    if (this.unsent.length > 0) {
      this.queue(message.bytes.subarray(0, length), fds);
      return;
    }
    const sent = this.sendNow(message, length, fds);
    if (sent === length) return;
    if (sent >= 0) this.queue(message.bytes.subarray(sent, length), NO_FDS);
    else if (sent === -ERRNO.EAGAIN) this.queue(message.bytes.subarray(0, length), fds);
    else this.close(sendError(sent));
  }

  private sendNow(message: Pinned, length: number, fds: readonly number[]): number {
    if (fds.length === 0) return sys.send(this.socket.fd, message.address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    this.outgoing.setIov(0, message.address, length);
    return this.outgoing.sendmsg(this.socket.fd, MSG_DONTWAIT, fds);
  }

  close(why: Error | null): void {
    if (!this.open) return;
    this.open = false;
    this.loop.remove(this.key);
    this.takeOut();
    for (const message of this.unsent.splice(0)) for (const fd of message.fds) fd.close();
    this.frames.close();
    if (why !== null) this.hangUp();
    this.events.onClose(why);
  }

  /** After `onClose`. */
  hangUp(): void {
    if (this.socket.isOpen) hangUp(this.socket);
  }

  private queue(bytes: Uint8Array, fds: readonly number[]): void {
    try {
      this.unsent.push({ bytes: Buffer.from(bytes), fds: duplicateAll(fds, 'descriptor to send') });
    } catch (error) {
      // A reply that cannot be kept is lost, and with it the client's place in the conversation.
      this.close(error as Error);
      return;
    }
    this.updateInterest();
  }

  private updateInterest(): void {
    const reads = !this.paused && this.unsent.length === 0;
    const events = (reads ? EPOLLIN | EPOLLRDHUP : 0) | (this.unsent.length > 0 ? EPOLLOUT : 0);
    this.loop.modify(this.key, events | EPOLLET);
  }

  private onReady(ready: number): void {
    if ((ready & EPOLLOUT) !== 0) this.flush();
    if (!this.open) return;
    if ((ready & EPOLLIN) !== 0) this.receive((ready & EPOLLRDHUP) !== 0 || hungUp(ready));
    else if (hungUp(ready)) this.close(null);
  }

  private flush(): void {
    for (let next = this.unsent[0]; next !== undefined; next = this.unsent[0]) {
      const copy = new Pinned(next.bytes.length);
      copy.bytes.set(next.bytes);
      this.outgoing.setIov(0, copy.address, next.bytes.length);
      const sent = this.outgoing.sendmsg(
        this.socket.fd,
        MSG_DONTWAIT,
        next.fds.map((fd) => fd.fd),
      );
      if (sent === -ERRNO.EAGAIN) return;
      if (sent < 0) {
        this.close(sendError(sent));
        return;
      }
      for (const fd of next.fds) fd.close();
      if (sent < next.bytes.length) {
        this.unsent[0] = { bytes: next.bytes.subarray(sent), fds: [] };
        return;
      }
      this.unsent.shift();
    }
    this.updateInterest();
    this.cut();
  }

  /**
   * Reads all that there is: nobody says it again. A peer that is `leaving` has its end of the stream behind it. One
   * that takes its reply and asks again at once is found without the loop, so that is tried while it works.
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

  /** Whoever ends a pause has the loop look at the socket again. */
  private get mayReceive(): boolean {
    return this.open && !this.paused && this.unsent.length === 0;
  }

  /** False when there was nothing, or the end. */
  private receiveOnce(): boolean {
    let received: number;
    try {
      received = this.frames.receive(this.socket.fd, false, this.left);
      if (!this.asked && !this.left.isEmpty) this.askForQuiet();
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
    this.asked = true;
    this.loop.whenQuiet(() => {
      this.asked = false;
      if (this.open) this.takeOut();
    });
  }

  private takeOut(): void {
    try {
      this.left.takeOut();
    } catch (error) {
      this.close(error as Error);
    }
  }

  /** Hands every complete frame on, until told to pause, or until the peer does not take its replies. */
  private cut(): void {
    if (this.cutting) return;
    this.cutting = true;
    try {
      while (this.open && !this.paused && this.unsent.length === 0) {
        const frame = this.frames.next();
        if (frame === null) break;
        if (this.events.onFrame(frame)) this.frames.keepLast();
      }
    } catch (error) {
      this.close(error as Error);
    } finally {
      this.cutting = false;
    }
  }
}

const NO_FDS: readonly number[] = [];

function sendError(result: number): Error | null {
  return result === -ERRNO.EPIPE || result === -ERRNO.ECONNRESET ? null : Errno.fromCode(-result, 'send to the peer');
}
