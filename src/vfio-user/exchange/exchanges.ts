/** Joins the messages of sockets to exchanges: a command, its reply, and the time between them. */
import { errnoName } from '../../abi/errno.ts';
import type { FdNote } from '../../linux/fd-note.ts';
import type { SocketKind, TappedMessage } from '../wire/tap.ts';
import { type FieldTexts, headerOf, messageFields, messageName } from './describe.ts';

export interface TracedExchange {
  /** When the command came or went: milliseconds since the epoch, with fractions. */
  atMs: number;
  device: string;
  kind: SocketKind;
  connection: number;
  pid: number;
  /** The command's name without its prefix, such as `DMA_MAP` or `DEVICE_FEATURE GET DMA_BUF`. */
  message: string;
  /** Whether the server sent the command, as DMA_READ and INVALIDATE. */
  isOfServer: boolean;
  /** The command's fields by the names of the ABI, and its descriptors. */
  request: FieldTexts;
  requestFds: readonly FdNote[];
  /** Null where the command asks for no reply, or where the connection ended before it. */
  reply: { errno: string | null; fields: FieldTexts; fds: readonly FdNote[]; latencyMs: number } | null;
  /** The connection ended before the reply. */
  isUnanswered: boolean;
}

/** Commands without a reply on one connection that are remembered. A peer that answers none takes no more memory. */
const MAX_WAITING = 4096;

export class Exchanges {
  private readonly onExchange: (exchange: TracedExchange) => void;
  private readonly waiting = new Map<string, Map<string, TracedExchange>>();

  constructor(onExchange: (exchange: TracedExchange) => void) {
    this.onExchange = onExchange;
  }

  add(message: TappedMessage): void {
    const socket = `${message.kind} ${message.connection}`;
    if (message.bytes.length === 0) {
      this.end(socket);
      return;
    }
    const { id, isReply, noReply, error } = headerOf(message.bytes);
    const waiting = this.waiting.get(socket) ?? new Map<string, TracedExchange>();
    this.waiting.set(socket, waiting);
    // The ids of the two ends are apart: a reply belongs to a command of the other direction.
    const key = `${message.isSent !== isReply} ${id}`;
    if (isReply) {
      const exchange = waiting.get(key);
      if (exchange === undefined) return;
      waiting.delete(key);
      const fields = error === 0 ? messageFields(message.kind, message.bytes) : {};
      const latencyMs = message.atMs - exchange.atMs;
      exchange.reply = { errno: error === 0 ? null : errnoName(error), fields, fds: message.fds, latencyMs };
      this.onExchange(exchange);
      return;
    }
    const exchange = exchangeOf(message);
    if (noReply) this.onExchange(exchange);
    else if (waiting.size < MAX_WAITING) waiting.set(key, exchange);
  }

  /** Forgets commands without a reply. For after a loss: their replies may be lost, and their ids come again. */
  forget(): void {
    this.waiting.clear();
  }

  private end(socket: string): void {
    for (const exchange of this.waiting.get(socket)?.values() ?? []) {
      exchange.isUnanswered = true;
      this.onExchange(exchange);
    }
    this.waiting.delete(socket);
  }
}

function exchangeOf({ atMs, device, kind, connection, pid, isSent, fds, bytes }: TappedMessage): TracedExchange {
  return {
    ...{ atMs, device, kind, connection, pid },
    message: messageName(kind, bytes),
    isOfServer: isSent,
    request: messageFields(kind, bytes),
    requestFds: fds,
    reply: null,
    isUnanswered: false,
  };
}
