/** What a replay says: the commands of a capture's clients, with the replies that they got. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_USER_HEADER_SIZE } from '../../abi/vfio-user.ts';
import type { TappedMessage } from '../wire/tap.ts';
import { headerOf } from './describe.ts';

/** A command of the server, as DMA_READ, and the client's reply. */
export interface RecordedDma {
  readonly command: TappedMessage;
  reply: TappedMessage | null;
}

export interface ClientCommand {
  readonly command: TappedMessage;
  /** Null for a command that asked for none, or whose connection ended before. */
  reply: TappedMessage | null;
  /** How many commands of the server came before this one on its connection. */
  readonly afterServerCommands: number;
}

/** A client's connection, in the order of its commands. */
export interface RecordedConnection {
  readonly connection: number;
  readonly commands: ClientCommand[];
  readonly serverCommands: RecordedDma[];
}

/** The names of devices in a capture that have clients. */
export function devicesOf(messages: readonly TappedMessage[]): string[] {
  return [...new Set(messages.filter(({ kind }) => kind === 'vfio-user').map(({ device }) => device))];
}

/**
 * The connections of one device's clients, in the order of their beginning. A device has one client at a time. Leaves
 * out importers of buffers: their sockets come from the server. EPROTO for a message without a header.
 */
export function scriptOf(messages: readonly TappedMessage[], device: string): RecordedConnection[] {
  const connections = new Map<number, RecordedConnection>();
  const waiting = new Map<string, ClientCommand | RecordedDma>();
  for (const message of messages) {
    if (message.device !== device || message.kind === 'dma-buf' || message.bytes.length === 0) continue;
    if (message.bytes.length < VFIO_USER_HEADER_SIZE)
      throw new Errno('EPROTO', 'the capture has a message of no header');
    const { connection, isSent } = message;
    const recorded = connections.get(connection) ?? { connection, commands: [], serverCommands: [] };
    connections.set(connection, recorded);
    const { id, isReply } = headerOf(message.bytes);
    const isOfServer = isSent !== isReply;
    const key = `${message.kind} ${connection} ${isOfServer} ${id}`;
    if (isReply) {
      const command = waiting.get(key);
      if (command !== undefined) command.reply = message;
      waiting.delete(key);
      continue;
    }
    const said = { command: message, reply: null, afterServerCommands: recorded.serverCommands.length };
    if (isOfServer) recorded.serverCommands.push(said);
    else recorded.commands.push(said);
    waiting.set(key, said);
  }
  return [...connections.values()].filter(({ commands }) => commands.length > 0);
}
