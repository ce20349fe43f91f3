/** The sockets of a blocking client: sends messages, takes replies, and meanwhile answers the device's own commands. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { POLLHUP, POLLIN } from '../../abi/poll.ts';
import {
  VFIO_USER_COMMAND_NAMES,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_COMMAND,
  VFIO_USER_MINOR,
  VFIO_USER_VERSION,
  vfio_user_version,
} from '../../abi/vfio-user.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { PollSet } from '../../linux/poll.ts';
import { connectUnix, setSocketTimeout } from '../../linux/socket.ts';
import type { Frame } from '../wire/frame.ts';
import { type Capabilities, CLIENT_OFFER, decodeVersion, encodeVersion } from '../wire/version.ts';
import { answerDma, type ClientDmaMemory } from './dma-answer.ts';
import { lost, Stream, type WhileWaiting } from './stream.ts';

export interface Answer {
  /** A copy, so it stays valid. */
  payload: Buffer;
  fds: OwnedFd[];
}

export interface ClientOptions {
  /** How long a call waits for its reply. */
  timeoutMs?: number;
  /** Ask for a second socket for the commands of the server. */
  twinSocket?: boolean;
  /** Called while a call waits, so that the client can answer others. */
  whileWaiting?: WhileWaiting;
}

/**
 * One connection to one device. A refusal of the server is thrown as the Errno that it sent. While a call waits for its
 * reply, the channel answers the server's DMA_READ and DMA_WRITE from `memory`.
 */
export class ClientChannel {
  readonly path: string;
  readonly capabilities: Capabilities;
  /** Answers the device's DMA to regions that were mapped without a descriptor. */
  memory: ClientDmaMemory | null = null;
  private readonly timeoutMs: number;
  private readonly main: Stream;
  private twin: Stream | null = null;
  private readonly poll = new PollSet(3);
  private nextId = 0;

  /**
   * Connects and agrees on a version. ENOENT or ECONNREFUSED without a listener, EBUSY while the device has another
   * client. ETIMEDOUT when the server does not accept, or is silent, for `timeoutMs`. EPROTO where its VERSION
   * contradicts itself or the client's.
   */
  constructor(path: string, { timeoutMs = 10_000, twinSocket = false, whileWaiting }: ClientOptions = {}) {
    this.path = path;
    this.timeoutMs = timeoutMs;
    this.main = new Stream(connectUnix(path, timeoutMs), path, whileWaiting);
    try {
      setSocketTimeout(this.main.socket, timeoutMs);
      this.capabilities = this.agree(twinSocket);
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
   */
  call(command: number, payload: Uint8Array, fds: readonly number[] = NO_FDS): Answer {
    this.checkFds(fds);
    const id = this.takeId();
    this.main.send(id, command, payload, VFIO_USER_F_TYPE_COMMAND, fds);
    for (;;) {
      const frame = this.twin === null ? this.main.next() : this.nextOfBoth(this.twin);
      if (!frame.isReply) {
        answerDma(this.main, frame, this.memory);
        continue;
      }
      if (frame.id !== id || frame.command !== command) {
        for (const fd of frame.fds) fd.close();
        throw new Errno('EPROTO', `a reply to message ${frame.id} (command ${frame.command}), waiting for ${id}`);
      }
      if (frame.error !== 0) {
        for (const fd of frame.fds) fd.close();
        const name = VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`;
        throw Errno.fromCode(frame.error, `${name}, ${this.path}`);
      }
      return { payload: Buffer.from(frame.payload), fds: frame.fds };
    }
  }

  /** Sends a command without a reply. Its failure is not reported. */
  post(command: number, payload: Uint8Array): void {
    this.main.send(this.takeId(), command, payload, VFIO_USER_F_TYPE_COMMAND | VFIO_USER_F_NO_REPLY);
  }

  /** Answers the device's DMA until `fd` can be read; false after `timeoutMs`. */
  waitFor(fd: number, timeoutMs: number): boolean {
    const end = performance.now() + timeoutMs;
    for (;;) {
      for (const stream of this.streams()) this.answerReady(stream);
      const leftMs = Math.max(0, Math.ceil(end - performance.now()));
      this.poll.set(0, this.main.socket.fd, POLLIN);
      this.poll.set(1, this.twin?.socket.fd ?? -1, POLLIN);
      this.poll.set(2, fd, POLLIN);
      if (this.poll.wait(leftMs) === 0) return false;
      if (this.poll.revents(2) !== 0) return true;
      for (const [i, stream] of this.streams().entries()) if (this.poll.revents(i) !== 0) stream.receive();
    }
  }

  close(): void {
    this.closeStreams();
  }

  /**
   * As `close`, but returns only when the device is closed: its lent buffers are revoked, and it takes another client.
   * close(2) does the same on a device of the kernel. ETIMEDOUT when the server does not finish.
   */
  closeAndWait(): void {
    try {
      this.main.finish();
    } finally {
      this.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
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

  private agree(twinSocket: boolean): Capabilities {
    const answer = this.call(VFIO_USER_VERSION, encodeVersion({ ...CLIENT_OFFER, twinSocket }));
    try {
      const capabilities = decodeVersion(answer.payload);
      const minor = vfio_user_version.fields.minor.get(viewOf(answer.payload));
      if (minor > VFIO_USER_MINOR) throw new Errno('EPROTO', `VERSION: 0.${minor} in reply to 0.${VFIO_USER_MINOR}`);
      if (capabilities.twinSocket) this.takeTwin(twinSocket, capabilities, answer.fds);
      return capabilities;
    } finally {
      for (const fd of answer.fds) fd.close();
    }
  }

  private takeTwin(asked: boolean, { twinFdIndex }: Capabilities, fds: readonly OwnedFd[]): void {
    const fd = twinFdIndex === null ? undefined : fds[twinFdIndex];
    if (!asked || fd === undefined) {
      const why = asked ? `descriptor ${twinFdIndex} of ${fds.length}` : 'nobody asked for it';
      throw new Errno('EPROTO', `VERSION: a twin socket, and ${why}`);
    }
    const socket = fd.duplicate(`twin socket of ${this.path}`);
    this.twin = new Stream(socket, this.path);
    setSocketTimeout(socket, this.timeoutMs);
  }

  private streams(): Stream[] {
    return this.twin === null ? [this.main] : [this.main, this.twin];
  }

  /** Returns the next frame of the main socket. Meanwhile it answers the commands on the twin. */
  private nextOfBoth(twin: Stream): Frame {
    for (let frame = this.main.ready(); ; frame = this.main.ready()) {
      if (frame !== null) return frame;
      this.answerReady(twin);
      this.poll.set(0, this.main.socket.fd, POLLIN);
      this.poll.set(1, twin.socket.fd, POLLIN);
      this.poll.set(2, -1, 0);
      if (this.poll.wait(this.timeoutMs) === 0) throw lost(-ERRNO.EAGAIN, this.path);
      if ((this.poll.revents(1) & (POLLIN | POLLHUP)) !== 0) twin.receive();
      else this.main.receive();
    }
  }

  private answerReady(stream: Stream): void {
    for (let frame = stream.ready(); frame !== null; frame = stream.ready()) {
      if (frame.isReply) {
        for (const fd of frame.fds) fd.close();
        throw new Errno('EPROTO', `a reply to message ${frame.id}, and nothing was asked`);
      }
      answerDma(stream, frame, this.memory);
    }
  }

  private takeId(): number {
    this.nextId = (this.nextId + 1) & 0xffff;
    return this.nextId;
  }
}

const NO_FDS: readonly number[] = [];

/** Returns a view of a reply's payload. EPROTO where it is shorter than `struct`. */
export function replyOf(payload: Buffer, struct: { name: string; sizeof: number }): DataView {
  if (payload.length < struct.sizeof) {
    throw new Errno('EPROTO', `a reply of ${payload.length} bytes is shorter than ${struct.name}`);
  }
  return viewOf(payload);
}
