/** Says the commands of a capture again to another server, in their order, and compares the replies. */
import { ERRNO, Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_USER_CAP_TWIN_SOCKET,
  VFIO_USER_DMA_MAP,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_NO_REPLY,
  VFIO_USER_F_TYPE_REPLY,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_VERSION,
  vfio_user_dma_map,
  vfio_user_dma_region_access,
  vfio_user_header,
  vfio_user_version,
} from '../../abi/vfio-user.ts';
import { createEventfd } from '../../linux/eventfd.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import { type FdNote, noteOf } from '../../linux/fd-note.ts';
import { createMemfd } from '../../linux/memfd.ts';
import { connectUnix } from '../../linux/socket.ts';
import { endAfter, Stream } from '../client/stream.ts';
import type { Frame } from '../wire/frame.ts';
import { type ComparedReply, compareReplies, type ReplyDifference } from './compare.ts';
import { headerOf, messageFields, messageName } from './describe.ts';
import type { ClientCommand, RecordedConnection, RecordedDma } from './replay-script.ts';

/** A reply that differs, or a command of the server that does. */
export interface ReplayDifference extends ReplyDifference {
  readonly connection: number;
  /** The number of the command on its connection, from 1 on. */
  readonly exchange: number;
  readonly message: string;
}

export interface ReplayResult {
  commands: number;
  replies: number;
  readonly differences: ReplayDifference[];
  /** Why the replay ended before the last command. Null if it did not. */
  end: string | null;
}

/** How long a reply may take, and how long the replay waits for a DMA of the device that the capture has. */
const REPLY_MS = 10_000;
const DMA_MS = 1000;
/** Of the start of a DMA command: its address and its size. */
const DMA_HEAD = VFIO_USER_HEADER_SIZE + vfio_user_dma_region_access.sizeof;

/** Plays all connections, one after the other. Throws the error of a server that cannot be reached. */
export function replayTo(path: string, connections: readonly RecordedConnection[]): ReplayResult {
  const result: ReplayResult = { commands: 0, replies: 0, differences: [], end: null };
  for (const recorded of connections) {
    const player = new Player(path, recorded, result);
    try {
      player.play();
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      result.end = `connection ${recorded.connection}, exchange ${player.exchange}: ${error.message}`;
      break;
    } finally {
      player.close();
    }
  }
  return result;
}

class Player {
  exchange = 0;
  private readonly recorded: RecordedConnection;
  private readonly result: ReplayResult;
  private readonly stream: Stream;
  /** Commands of the server that the replay has answered. */
  private readonly answered = new Set<RecordedDma>();
  private message = '';

  constructor(path: string, recorded: RecordedConnection, result: ReplayResult) {
    this.recorded = recorded;
    this.result = result;
    this.stream = new Stream(connectUnix(path), path, REPLY_MS);
  }

  play(): void {
    for (const each of this.recorded.commands) {
      this.awaitDma(each.afterServerCommands);
      this.exchange += 1;
      this.message = messageName('vfio-user', each.command.bytes);
      const reply = this.say(each);
      this.result.commands += 1;
      if (reply === null || each.reply === null) continue;
      this.result.replies += 1;
      for (const difference of compareReplies(each.reply, reply)) this.differs(difference);
    }
  }

  close(): void {
    this.stream.close();
  }

  private differs(difference: ReplyDifference): void {
    const { exchange, message } = this;
    this.result.differences.push({ connection: this.recorded.connection, exchange, message, ...difference });
  }

  /** Returns the reply, or null where the command asks for none. */
  private say({ command }: ClientCommand): ComparedReply | null {
    const { id, command: number, noReply } = headerOf(command.bytes);
    const payload = payloadOf(command.bytes);
    const fds = command.fds.map((note) => substitute(note, command.bytes));
    const end = endAfter(REPLY_MS);
    try {
      const numbers = fds.map(({ fd }) => fd);
      this.stream.send(end, id, number, payload, noReply ? VFIO_USER_F_NO_REPLY : 0, numbers);
    } finally {
      closeAll(fds);
    }
    if (noReply) return null;
    for (;;) {
      const frame = this.stream.next(end, false);
      if (!frame.isReply) this.answer(frame);
      else if (frame.id === id) return taken(frame);
      else throw new Errno('EPROTO', `a reply to message ${frame.id}, and ${id} was asked`);
    }
  }

  /** Waits until the server has sent as many commands as in the capture, for a while. */
  private awaitDma(count: number): void {
    while (this.answered.size < count) {
      try {
        const frame = this.stream.next(endAfter(DMA_MS), false);
        if (frame.isReply) throw new Errno('EPROTO', `a reply to message ${frame.id}, which has one already`);
        this.answer(frame);
      } catch (error) {
        if (!(error instanceof Errno) || error.code !== 'ETIMEDOUT') throw error;
        const missing = this.recorded.serverCommands.slice(0, count).filter((each) => !this.answered.has(each));
        for (const each of missing) {
          this.differs({ field: 'DMA', was: textOf(each.command.bytes), is: 'nothing' });
          this.answered.add(each);
        }
      }
    }
  }

  /** Answers a command of the server as the client did that was captured. */
  private answer(frame: Frame): void {
    const asked = bytesOf(frame);
    closeAll(frame.fds);
    const isSame = ({ command: { bytes } }: RecordedDma) =>
      headerOf(bytes).command === frame.command && headText(bytes) === headText(asked);
    const found = this.recorded.serverCommands.find((each) => !this.answered.has(each) && isSame(each));
    if (found === undefined) this.differs({ field: 'DMA', was: 'nothing', is: textOf(asked) });
    else {
      this.answered.add(found);
      const [was, is] = [found.command.bytes, asked].map((bytes) => Buffer.from(bytes.subarray(DMA_HEAD)));
      if (!was.equals(is)) this.differs({ field: 'DMA data', was: was.toString('hex'), is: is.toString('hex') });
    }
    if (frame.noReply) return;
    const reply = found?.reply ?? null;
    const error = reply === null ? ERRNO.EIO : headerOf(reply.bytes).error;
    const flags = VFIO_USER_F_TYPE_REPLY | (error === 0 ? 0 : VFIO_USER_F_ERROR);
    const payload = reply === null ? new Uint8Array() : payloadOf(reply.bytes);
    this.stream.send(endAfter(REPLY_MS), frame.id, frame.command, payload, flags, [], error);
  }
}

/** The payload to say. VERSION asks for no twin socket, so that all commands of the server come on one socket. */
function payloadOf(bytes: Uint8Array): Uint8Array {
  const payload = bytes.subarray(VFIO_USER_HEADER_SIZE);
  if (headerOf(bytes).command !== VFIO_USER_VERSION) return payload;
  try {
    const { json } = messageFields('vfio-user', bytes);
    const said = JSON.parse(String(json)) as { capabilities: Record<string, unknown> };
    if (!(VFIO_USER_CAP_TWIN_SOCKET in said.capabilities)) return payload;
    delete said.capabilities[VFIO_USER_CAP_TWIN_SOCKET];
    return Buffer.concat([payload.subarray(0, vfio_user_version.sizeof), Buffer.from(`${JSON.stringify(said)}\0`)]);
  } catch {
    // A client may have said anything; the server's answer to it is compared, too.
    return payload;
  }
}

/** A descriptor in place of another: an eventfd, or a memfd as large as the file, or as the DMA_MAP needs. */
function substitute({ kind, sizeBytes }: FdNote, bytes: Uint8Array): OwnedFd {
  if (kind === 'eventfd') return createEventfd('eventfd of a replay');
  const isMap = headerOf(bytes).command === VFIO_USER_DMA_MAP;
  if (kind === 'file' || !isMap || bytes.length < VFIO_USER_HEADER_SIZE + vfio_user_dma_map.sizeof) {
    return createMemfd('replay', sizeBytes);
  }
  const { offset, size } = vfio_user_dma_map.fields;
  const view = viewOf(bytes);
  return createMemfd('replay', offset.get(view, VFIO_USER_HEADER_SIZE) + size.get(view, VFIO_USER_HEADER_SIZE));
}

/** Copies a reply, and notes and closes its descriptors. */
function taken(frame: Frame): ComparedReply {
  const fds = frame.fds.map(({ fd }) => noteOf(fd));
  closeAll(frame.fds);
  return { bytes: bytesOf(frame), fds };
}

function bytesOf({ id, command, isReply, error, payload }: Frame): Buffer {
  const flags = (isReply ? VFIO_USER_F_TYPE_REPLY : 0) | (error === 0 ? 0 : VFIO_USER_F_ERROR);
  const size = VFIO_USER_HEADER_SIZE + payload.length;
  const header = vfio_user_header.encode({ msg_id: id, cmd: command, msg_size: size, flags, error_no: error });
  return Buffer.concat([header, payload]);
}

function headText(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(VFIO_USER_HEADER_SIZE, DMA_HEAD)).toString('hex');
}

function textOf(bytes: Uint8Array): string {
  const fields = Object.entries(messageFields('vfio-user', bytes)).map(([name, value]) => `${name}=${value}`);
  return [messageName('vfio-user', bytes), ...fields].join(' ');
}
