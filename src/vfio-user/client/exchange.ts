/**
 * What a client says to a server and what it makes of the replies, without any I/O. Each command is an exchange: a
 * generator that yields requests and takes their answers. A blocking and an asynchronous channel run the same ones.
 */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { VFIO_USER_COMMAND_NAMES } from '../../abi/vfio-user.ts';
import { closeAll, type OwnedFd } from '../../linux/fd.ts';
import type { Capabilities } from '../wire/version.ts';

/** One command of the client. */
export interface Request {
  /** A VFIO_USER_... command. */
  readonly command: number;
  /** The bytes after the header. */
  readonly payload: Uint8Array;
  /** Travel with the command, and stay the caller's. */
  readonly fds?: readonly number[];
  /** The exchange takes the reply's descriptors and closes them. Else the channel closes them. */
  readonly takesFds?: boolean;
  /** No reply comes (VFIO_USER_F_NO_REPLY). Its answer is empty. */
  readonly isPosted?: boolean;
}

/** The reply to one command. */
export interface Answer {
  /** A copy, so it stays valid. */
  payload: Buffer;
  /** Empty unless the request takes them. */
  fds: OwnedFd[];
}

/** A refusal, or a failure of the connection, is thrown into the exchange at its `yield`. */
export type Exchange<T> = Generator<Request, T, Answer>;

/** The server of a connection: its socket, and what both sides agreed on. */
export interface Peer {
  /** The path of the socket. */
  readonly path: string;
  /** The limits that both sides agreed on. */
  readonly capabilities: Capabilities;
}

/** The server refused a command: its reply is an error. Other failures of a call are not of this class. */
export class RefusedError extends Errno {
  /** VFIO_USER_... */
  readonly command: number;

  constructor(number: number, command: number, path: string) {
    const { code, reason } = Errno.fromCode(number, `${commandName(command)}, ${path}`);
    super(code, reason);
    this.command = command;
  }
}

/** The name of a command in the protocol. */
function commandName(command: number): string {
  return VFIO_USER_COMMAND_NAMES.get(command) ?? `command ${command}`;
}

/** How long a call may take, unless the client's owner says otherwise. */
export const CALL_TIMEOUT_MS = 10_000;

/** Asks one question and returns the reply's payload. */
export function* ask(command: number, payload: Uint8Array): Exchange<Buffer> {
  const answer = yield { command, payload };
  return answer.payload;
}

/**
 * Asks with room for `argsz` bytes, and asks again where `wanted` finds in the first reply that more are needed. The
 * descriptors of a reply that `wanted` or `decode` refuses are closed.
 */
export function* askWithRoom<T>(
  request: (argsz: number) => Request,
  argsz: number,
  wanted: (payload: Buffer) => number,
  decode: (answer: Answer) => T,
): Exchange<T> {
  let answer = yield request(argsz);
  try {
    const needed = wanted(answer.payload);
    if (needed > argsz) {
      closeAll(answer.fds);
      answer = { payload: answer.payload, fds: [] };
      answer = yield request(needed);
    }
    return decode(answer);
  } catch (error) {
    closeAll(answer.fds);
    throw error;
  }
}

/** Returns a view of a reply's payload. EPROTO where it is shorter than `struct`. */
export function replyOf(payload: Buffer, struct: { name: string; sizeof: number }): DataView {
  if (payload.length < struct.sizeof) {
    throw new Errno('EPROTO', `a reply of ${payload.length} bytes is shorter than ${struct.name}`);
  }
  return viewOf(payload);
}

/** Returns the most bytes of data in one message. EPROTO for a server that takes none. */
export function mostDataBytes({ path, capabilities }: Peer): number {
  const { maxDataXferBytes } = capabilities;
  if (maxDataXferBytes === 0) throw new Errno('EPROTO', `${path} takes no data: its max_data_xfer_size is 0`);
  return maxDataXferBytes;
}
