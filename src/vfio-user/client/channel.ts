/** The sockets of a blocking client: sends messages, takes replies, and meanwhile answers the device's own commands. */
import { Errno } from '../../abi/errno.ts';
import { POLLIN } from '../../abi/poll.ts';
import {
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_VERSION,
} from '../../abi/vfio-user.ts';
import { closeAll } from '../../linux/fd.ts';
import { PollSet } from '../../linux/poll.ts';
import { connectUnix } from '../../linux/socket.ts';
import type { Frame } from '../wire/frame.ts';
import { type Capabilities, CLIENT_OFFER, encodeVersion } from '../wire/version.ts';
import { agree } from './agree.ts';
import { CallIds } from './call-ids.ts';
import { answerDma, type ClientDmaMemory } from './dma-answer.ts';
import { type Answer, CALL_TIMEOUT_MS, type Exchange, type Peer, RefusedError, type Request } from './exchange.ts';
import { broken, LostError, silent } from './lost.ts';
import { type EndMs, endAfter, leftMs, Stream, type WhileWaiting } from './stream.ts';

/** Options of a blocking client. */
export interface ClientOptions {
  /** How long a call may take, from its first byte to the last one of its reply. Default: 10,000; 0 is without end. */
  timeoutMs?: number;
  /** Ask for a second socket for the commands of the server. */
  twinSocket?: boolean;
  /** Called while a call waits, so that the client can answer others. */
  whileWaiting?: WhileWaiting;
}

/**
 * One connection to one device. A refusal of the server is thrown as a RefusedError with the errno that it sent. While
 * a call waits for its reply, the channel answers the server's DMA_READ and DMA_WRITE from `memory`.
 */
export class ClientChannel implements Peer {
  /** The path of the socket. */
  readonly path: string;
  /** The limits that both sides agreed on. */
  readonly capabilities: Capabilities;
  /** Answers the device's DMA to regions that were mapped without a descriptor. */
  memory: ClientDmaMemory | null = null;
  private readonly timeoutMs: number;
  private readonly main: Stream;
  private twin: Stream | null = null;
  private readonly poll = new PollSet(3);
  private readonly ids: CallIds;
  /** Why no call works any more; null while the connection stands. */
  private ended: LostError | null = null;

  /**
   * Connects and agrees on a version. ENOENT or ECONNREFUSED without a listener, EBUSY while the device has another
   * client. ETIMEDOUT when the server does not accept, or is silent, for `timeoutMs`. EPROTO where its VERSION
   * contradicts itself or the client's.
   */
  constructor(path: string, { timeoutMs = CALL_TIMEOUT_MS, twinSocket = false, whileWaiting }: ClientOptions = {}) {
    this.path = path;
    this.timeoutMs = timeoutMs;
    this.ids = new CallIds(path);
    this.main = new Stream(connectUnix(path, timeoutMs), path, timeoutMs, whileWaiting);
    try {
      this.capabilities = this.handshake(twinSocket);
    } catch (error) {
      this.closeStreams();
      throw error;
    }
  }

  /** Whether the server's commands come on a socket of their own. */
  get hasTwinSocket(): boolean {
    return this.twin !== null;
  }

  /**
   * Sends a command and waits for its reply. Throws the errno that the server sent, or the reason why no reply comes.
   * The caller closes the reply's descriptors. After ETIMEDOUT the connection stays: a late reply is dropped.
   */
  call(command: number, payload: Uint8Array, fds: readonly number[] = []): Answer {
    return this.request({ command, payload, fds, takesFds: true });
  }

  /** Sends a command without a reply. Its failure is not reported. */
  post(command: number, payload: Uint8Array): void {
    this.request({ command, payload, isPosted: true });
  }

  /** Runs an exchange: sends its requests, one after the other, and returns its result. */
  run<T>(exchange: Exchange<T>): T {
    for (let step = exchange.next(); ; ) {
      if (step.done === true) return step.value;
      let answer: Answer;
      try {
        answer = this.request(step.value);
      } catch (error) {
        step = exchange.throw(error);
        continue;
      }
      step = exchange.next(answer);
    }
  }

  /** Answers the device's DMA until `fd` can be read; false after `timeoutMs`. */
  waitFor(fd: number, timeoutMs: number): boolean {
    const end = performance.now() + timeoutMs;
    return this.guard(() => {
      for (;;) {
        for (const stream of this.streams()) this.answerReady(stream, endAfter(this.timeoutMs));
        this.setPoll(fd);
        if (this.poll.wait(leftMs(end)) === 0) return false;
        if (this.poll.revents(2) !== 0) return true;
        for (const [i, stream] of this.streams().entries()) {
          if (this.poll.revents(i) !== 0) stream.receive(end, false);
        }
      }
    });
  }

  /** Ends the connection without waiting until the device is closed. Closing again does nothing. */
  close(): void {
    this.closeStreams();
  }

  /**
   * As `close`, but returns only when the device is closed: its lent buffers are revoked, and it takes another client.
   * close(2) does the same on a device of the kernel. ETIMEDOUT when the server does not finish.
   */
  closeAndWait(): void {
    try {
      this.main.finish(endAfter(this.timeoutMs));
    } finally {
      this.close();
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  private request({ command, payload, fds = NO_FDS, takesFds = false, isPosted = false }: Request): Answer {
    if (this.ended !== null) throw this.ended;
    this.checkFds(fds);
    const end = endAfter(this.timeoutMs);
    const id = isPosted ? this.ids.post() : this.ids.take(command);
    let isOwed = false;
    try {
      return this.guard(() => {
        const flags = VFIO_USER_F_TYPE_COMMAND | (isPosted ? VFIO_USER_F_NO_REPLY : 0);
        this.main.send(end, id, command, payload, flags, fds);
        if (isPosted) return { payload: NOTHING, fds: [] };
        isOwed = true;
        const frame = this.replyTo(id, end);
        isOwed = false;
        return this.answerOf(frame, takesFds);
      });
    } finally {
      if (!isPosted) this.ids.end(id, isOwed);
    }
  }

  private answerOf({ command, error, fds, fdsError, payload }: Frame, takesFds: boolean): Answer {
    if (error !== 0 || fdsError !== undefined || !takesFds) closeAll(fds);
    if (error !== 0) throw new RefusedError(error, command, this.path);
    if (fdsError !== undefined) throw fdsError;
    return { payload: Buffer.from(payload), fds: takesFds ? fds : [] };
  }

  /** Remembers why the connection is lost. */
  private guard<T>(body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof LostError) this.ended = error;
      throw error;
    }
  }

  /** Returns the reply to a call. Drops late replies to calls that have ended. */
  private replyTo(id: number, end: EndMs): Frame {
    for (;;) {
      const frame = this.twin === null ? this.main.next(end) : this.nextOfBoth(this.twin, end);
      if (!frame.isReply) this.answer(this.main, frame, end);
      else if (this.matches(frame) === id) return frame;
    }
  }

  private matches(frame: Frame): number | null {
    let id: number | null = null;
    try {
      id = this.ids.match(frame);
    } catch (error) {
      closeAll(frame.fds);
      throw broken(this.path, error);
    }
    if (id === null) closeAll(frame.fds);
    return id;
  }

  private answer(stream: Stream, frame: Frame, end: EndMs): void {
    const reply = answerDma(frame, this.memory);
    if (reply === null) return;
    stream.send(end, frame.id, frame.command, reply.payload, VFIO_USER_F_TYPE_REPLY, NO_FDS, reply.error);
  }

  /** EMSGSIZE for more descriptors than the server takes. The server would drop the connection for them. */
  private checkFds(fds: readonly number[]): void {
    if (fds.length === 0) return;
    const most = this.capabilities.maxMsgFds;
    if (fds.length > most) throw new Errno('EMSGSIZE', `${fds.length} descriptors; ${this.path} takes ${most}`);
  }

  private closeStreams(): void {
    this.twin?.close();
    this.main.close();
  }

  private handshake(twinSocket: boolean): Capabilities {
    const answer = this.call(VFIO_USER_VERSION, encodeVersion({ ...CLIENT_OFFER, twinSocket }));
    const { capabilities, twin } = agree(this.path, answer, twinSocket);
    if (twin !== null) this.twin = new Stream(twin, this.path, this.timeoutMs);
    return capabilities;
  }

  private streams(): Stream[] {
    return this.twin === null ? [this.main] : [this.main, this.twin];
  }

  private setPoll(fd: number): void {
    this.poll.set(0, this.main.socket.fd, POLLIN);
    this.poll.set(1, this.twin?.socket.fd ?? -1, POLLIN);
    this.poll.set(2, fd, POLLIN);
  }

  /** Returns the next frame of the main socket. Meanwhile it answers the commands on the twin. */
  private nextOfBoth(twin: Stream, end: EndMs): Frame {
    for (let frame = this.main.ready(); ; frame = this.main.ready()) {
      if (frame !== null) return frame;
      this.answerReady(twin, end);
      this.setPoll(-1);
      if (this.poll.wait(leftMs(end)) === 0) throw silent(this.path);
      if (this.poll.revents(1) !== 0) twin.receive(end, false);
      else this.main.receive(end, false);
    }
  }

  /** Answers commands that have come. Drops late replies. */
  private answerReady(stream: Stream, end: EndMs): void {
    for (let frame = stream.ready(); frame !== null; frame = stream.ready()) {
      if (frame.isReply) this.matches(frame);
      else this.answer(stream, frame, end);
    }
  }
}

const NO_FDS: readonly number[] = [];
const NOTHING = Buffer.alloc(0);
