/** The commands of an importer, with a handler for each. An error that a handler throws becomes the reply's errno. */
import {
  DMA_BUF_SOCKET_FOREVER,
  DMA_BUF_SOCKET_INFO_REVOKED,
  DMA_BUF_SOCKET_MAP_READ,
  DMA_BUF_SOCKET_MAP_WRITE,
  DMA_BUF_SOCKET_NAME_LEN,
  DMA_BUF_SOCKET_POLLIN,
  DMA_BUF_SOCKET_POLLOUT,
} from '../../abi/dma-buf-socket.ts';
import { ERRNO, Errno, type ErrnoName, errnoName } from '../../abi/errno.ts';
import type { Fields } from '../../abi/layout.ts';
import { dmaBufSetName } from '../../dma-buf/ioctl.ts';
import { DMA_RESV_USAGE_BOOKKEEP, type DmaResvUsage } from '../../dma-buf/resv.ts';
import { reopenReadOnly } from '../../linux/memfd.ts';
import type { Task } from '../../task/op.ts';
import type { ExporterSession } from './exporter-session.ts';
import * as messages from './messages.ts';
import { decode, encodeMapped, type MessageType, type Settable, type Values } from './messages.ts';
import type { RemoteMapping } from './remote-mapping.ts';

/** The part of the session's connection that a handler may use. */
export interface ImporterContext {
  readonly session: ExporterSession;
  /** WAIT, at most `timeoutMs` (null: without end); returns the events that have happened. */
  wait(events: number, timeoutMs: number | null): Task<number>;
}

/** Sends the reply, with the reservation held where the handler says so. */
export type Send = (payload: Uint8Array, fds?: readonly number[]) => Task;
export type ImporterRequestHandler = (context: ImporterContext, payload: Uint8Array, send: Send) => Task;

/**
 * Makes a row of the table. It decodes the request before the first wait, because the payload is valid only until then.
 */
function on<Q extends Fields, R extends Fields>(
  type: MessageType<Q, R>,
  handler: (context: ImporterContext, request: Values<Q>, reply: (values: Settable<R>) => Task, send: Send) => Task,
): [number, ImporterRequestHandler] {
  return [
    type.command,
    (context, payload, send) =>
      handler(context, decode(type.request, payload, 'EINVAL'), (values) => send(type.reply.encode(values)), send),
  ];
}

/** A request whose handler sends nothing is answered with an empty reply. */
export const REQUEST_HANDLERS: ReadonlyMap<number, ImporterRequestHandler> = new Map([
  on(messages.QUERY, function* ({ session }, _, reply) {
    const { dmabuf, isRevoked } = session;
    yield* reply({
      size: dmabuf.sizeBytes,
      flags: isRevoked ? DMA_BUF_SOCKET_INFO_REVOKED : 0,
      exp_name: Buffer.from(dmabuf.expName).subarray(0, DMA_BUF_SOCKET_NAME_LEN - 1),
      name: Buffer.from(dmabuf.name ?? ''),
    });
  }),
  on(messages.SET_NAME, function* ({ session }, { name }) {
    const end = name.indexOf(0);
    if (end < 0) throw new Errno('EINVAL', 'a name without its terminating zero');
    dmaBufSetName(session.dmabuf, Buffer.from(name.subarray(0, end)).toString());
  }),
  on(messages.ATTACH, function* ({ session }, { id }, reply) {
    if (id !== 0) throw new Errno('EINVAL', 'ATTACH: reserved bits are set');
    yield* session.attach((attachment) => reply({ id: attachment }));
  }),
  on(messages.DETACH, ({ session }, { id }) => session.detach(id)),
  on(messages.MAP, function* ({ session }, { attachment, flags }, _, send) {
    const writable = (flags & DMA_BUF_SOCKET_MAP_WRITE) !== 0;
    if ((flags & DMA_BUF_SOCKET_MAP_READ) === 0 || flags > (DMA_BUF_SOCKET_MAP_READ | DMA_BUF_SOCKET_MAP_WRITE)) {
      throw new Errno('EINVAL', `MAP with flags ${flags}: read, or read and write`);
    }
    yield* session.map(attachment, writable, (mapping) => sendMapping(mapping, writable, send));
  }),
  on(messages.UNMAP, ({ session }, { id }) => session.unmap(id)),
  on(messages.ADD_FENCE, function* ({ session }, { attachment, usage }, reply) {
    if (usage > DMA_RESV_USAGE_BOOKKEEP) throw new Errno('EINVAL', `ADD_FENCE: usage ${usage}`);
    yield* session.addFence(attachment, usage as DmaResvUsage, (id) => reply({ id }));
  }),
  on(messages.SIGNAL_FENCE, ({ session }, { fence, error }) =>
    session.signalFence(fence, error === 0 ? null : errorOf(error)),
  ),
  on(messages.WAIT, function* (context, { events, timeout_ms }, reply) {
    if (events === 0 || (events & ~(DMA_BUF_SOCKET_POLLIN | DMA_BUF_SOCKET_POLLOUT)) !== 0) {
      throw new Errno('EINVAL', `WAIT for events ${events}`);
    }
    yield* reply({ events: yield* context.wait(events, timeout_ms === DMA_BUF_SOCKET_FOREVER ? null : timeout_ms) });
  }),
]);

function* sendMapping({ id, memory, ranges }: RemoteMapping, writable: boolean, send: Send): Task {
  if (memory.fd === undefined) throw new Errno('EOPNOTSUPP', 'the BAR has no memory that can be shared');
  const start = memory.fdOffset ?? 0;
  const inFile = ranges.map(({ offset, sizeBytes }) => ({ offset: start + offset, sizeBytes }));
  const payload = encodeMapped(id, inFile);
  if (writable) {
    yield* send(payload, [memory.fd]);
    return;
  }
  const readOnly = reopenReadOnly(memory.fd);
  try {
    yield* send(payload, [readOnly.fd]);
  } finally {
    readOnly.close();
  }
}

function errorOf(code: number): ErrnoName {
  const name = errnoName(code);
  return name in ERRNO ? (name as ErrnoName) : 'EIO';
}
