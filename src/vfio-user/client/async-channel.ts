/** The socket of an asynchronous client: calls are promises, and Node's event loop goes on while they wait. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { EPOLLIN, EPOLLOUT } from '../../abi/poll.ts';
import {
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_VERSION,
} from '../../abi/vfio-user.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { Pinned } from '../../linux/ffi.ts';
import { loopPoll } from '../../linux/loop-poll.ts';
import { tryConnectUnix } from '../../linux/socket.ts';
import { type Frame, LIMITS, writeHeader } from '../wire/frame.ts';
import { FrameReader } from '../wire/frame-reader.ts';
import { SendQueue } from '../wire/send-queue.ts';
import { type Capabilities, CLIENT_OFFER, encodeVersion } from '../wire/version.ts';
import { agree } from './agree.ts';
import { CallIds } from './call-ids.ts';
import { answerDma, type ClientDmaMemory } from './dma-answer.ts';
import { type Answer, CALL_TIMEOUT_MS, type Exchange, RefusedError, type Request } from './exchange.ts';
import { broken, LostError, lost, silent } from './lost.ts';

/** Options of each call of an asynchronous client. */
export interface CallOptions {
  /** Ends the call early: it rejects with the signal's reason, and a late reply is dropped. */
  signal?: AbortSignal | undefined;
}

/** Options of `AsyncVfioUserClient.connect`. */
export interface AsyncClientOptions extends CallOptions {
  /** How long a call may take. Default: 10,000; 0 is without end. */
  timeoutMs?: number;
}

interface PendingReply {
  readonly takesFds: boolean;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/** How long to wait for a place in the listener's backlog before the next try. */
const RETRY_MS = 5;

/** Connects without blocking. ETIMEDOUT when the server does not accept for `timeoutMs`. */
export async function connectSocket(
  path: string,
  { timeoutMs = CALL_TIMEOUT_MS, signal }: AsyncClientOptions,
): Promise<OwnedFd> {
  for (const end = performance.now() + timeoutMs; ; await sleep(RETRY_MS, undefined, { signal })) {
    signal?.throwIfAborted();
    const socket = tryConnectUnix(path);
    if (socket !== null) return socket;
    if (timeoutMs > 0 && performance.now() > end) throw silent(path);
  }
}

/** As ClientChannel, with promises. Several calls may wait at once; each gets the reply with its id. */
export class AsyncChannel {
  readonly path: string;
  /** Answers the device's DMA to regions that were mapped without a descriptor. */
  memory: ClientDmaMemory | null = null;
  private readonly timeoutMs: number;
  private readonly socket: OwnedFd;
  private readonly key: number;
  private readonly ids: CallIds;
  private readonly frames = new FrameReader();
  private readonly outgoing: SendQueue;
  private readonly waiting = new Map<number, PendingReply>();
  private ended: Errno | null = null;
  private maxMsgFds = 0;

  /** Takes ownership of `socket`. */
  constructor(socket: OwnedFd, path: string, timeoutMs: number) {
    this.socket = socket;
    this.path = path;
    this.timeoutMs = timeoutMs;
    this.ids = new CallIds(path);
    this.outgoing = new SendQueue(socket, LIMITS.maxMsgFds, (why) =>
      this.end(why === null ? lost(-ERRNO.EPIPE, path) : broken(path, why)),
    );
    this.key = loopPoll.add(socket.fd, EPOLLIN, (events) => this.onReady(events));
  }

  async handshake(options: CallOptions): Promise<Capabilities> {
    const request = { command: VFIO_USER_VERSION, payload: encodeVersion(CLIENT_OFFER), takesFds: true };
    const { capabilities } = agree(this.path, await this.request(request, options), false);
    this.maxMsgFds = capabilities.maxMsgFds;
    return capabilities;
  }

  /** Runs an exchange: sends its requests, one after the other, and returns its result. */
  async run<T>(exchange: Exchange<T>, options: CallOptions = {}): Promise<T> {
    for (let step = exchange.next(); ; ) {
      if (step.done === true) return step.value;
      let answer: Answer;
      try {
        answer = await this.request(step.value, options);
      } catch (error) {
        step = exchange.throw(error);
        continue;
      }
      step = exchange.next(answer);
    }
  }

  async request(request: Request, { signal }: CallOptions): Promise<Answer> {
    const { command, payload, fds = [], takesFds = false, isPosted = false } = request;
    signal?.throwIfAborted();
    if (this.ended !== null) throw this.ended;
    const most = this.maxMsgFds;
    if (fds.length > most) throw new Errno('EMSGSIZE', `${fds.length} descriptors; ${this.path} takes ${most}`);
    if (isPosted) {
      const flags = VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY;
      this.send(this.ids.post(), command, payload, flags, fds);
      if (this.ended !== null) throw this.ended;
      return { payload: Buffer.alloc(0), fds: [] };
    }
    const id = this.ids.take(command);
    let isSent = false;
    let timer: NodeJS.Timeout | undefined;
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise<Answer>((resolve, reject) => {
        this.waiting.set(id, { takesFds, resolve, reject });
        if (this.timeoutMs > 0) timer = setTimeout(() => reject(silent(this.path)), this.timeoutMs);
        onAbort = () => reject(signal?.reason);
        signal?.addEventListener('abort', onAbort);
        this.send(id, command, payload, VFIO_USER_F_TYPE_COMMAND, fds);
        isSent = true;
      });
    } finally {
      // A reply has taken its call off the list, and ended it. A call that was not sent gets no reply.
      if (this.waiting.delete(id)) this.ids.end(id, isSent);
      clearTimeout(timer);
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Ends all calls. The connection is of no more use. */
  end(why: Errno): void {
    if (this.ended !== null) return;
    this.ended = why;
    loopPoll.remove(this.key);
    for (const { reject } of this.waiting.values()) reject(why);
  }

  close(): void {
    if (!this.socket.isOpen) return;
    this.end(new LostError('ECANCELED', `${this.path}: the client is closed`));
    this.outgoing.close();
    this.frames.close();
    this.socket.close();
  }

  private send(
    id: number,
    command: number,
    payload: Uint8Array,
    flags: number,
    fds: readonly number[] = [],
    error = 0,
  ): void {
    const message = new Pinned(VFIO_USER_HEADER_SIZE + payload.length);
    writeHeader(message.view, id, command, payload.length, flags, error);
    message.bytes.set(payload, VFIO_USER_HEADER_SIZE);
    this.outgoing.send(message, message.bytes.length, fds);
    if (this.ended === null && !this.outgoing.isEmpty) loopPoll.modify(this.key, EPOLLIN | EPOLLOUT);
  }

  private onReady(events: number): void {
    try {
      if ((events & EPOLLOUT) !== 0) this.flush();
      while (this.ended === null && this.receive()) this.cut();
    } catch (error) {
      this.end(error instanceof LostError ? error : broken(this.path, error));
    }
  }

  private flush(): void {
    this.outgoing.flush();
    if (this.ended === null && this.outgoing.isEmpty) loopPoll.modify(this.key, EPOLLIN);
  }

  /** Reads once. False when the socket is empty. */
  private receive(): boolean {
    let received: number;
    try {
      received = this.frames.receive(this.socket.fd, false);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      // Descriptors cannot be taken. Their frame says so when it is whole.
      return true;
    }
    if (received === -ERRNO.EAGAIN) return false;
    if (received <= 0) throw lost(received, this.path);
    return true;
  }

  private cut(): void {
    // A frame that is taken out owns descriptors, so none is once the connection has ended.
    while (this.ended === null) {
      const frame = this.frames.next();
      if (frame === null) return;
      if (frame.isReply) this.settle(frame);
      else this.answer(frame);
    }
  }

  private settle(frame: Frame): void {
    let id: number | null = null;
    try {
      id = this.ids.match(frame);
    } finally {
      if (id === null) closeAll(frame.fds);
    }
    const call = id === null ? undefined : this.waiting.get(id);
    if (id === null || call === undefined) return;
    this.waiting.delete(id);
    this.ids.end(id, false);
    if (frame.error !== 0 || frame.fdsError !== undefined || !call.takesFds) closeAll(frame.fds);
    if (frame.error !== 0) call.reject(new RefusedError(frame.error, frame.command, this.path));
    else if (frame.fdsError !== undefined) call.reject(frame.fdsError);
    else call.resolve({ payload: Buffer.from(frame.payload), fds: call.takesFds ? frame.fds : [] });
  }

  private answer(frame: Frame): void {
    const reply = answerDma(frame, this.memory);
    if (reply === null) return;
    this.send(frame.id, frame.command, reply.payload, VFIO_USER_F_TYPE_REPLY, [], reply.error);
  }
}
