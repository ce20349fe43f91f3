/** The messages of docs/dma-buf-socket.md, for both ends: their names, requests and replies. */
import {
  DMA_BUF_SOCKET_ADD_FENCE,
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_COMMAND_NAMES,
  DMA_BUF_SOCKET_DETACH,
  DMA_BUF_SOCKET_INVALIDATE,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_OPEN,
  DMA_BUF_SOCKET_QUERY,
  DMA_BUF_SOCKET_RESTORE,
  DMA_BUF_SOCKET_SET_NAME,
  DMA_BUF_SOCKET_SIGNAL_FENCE,
  DMA_BUF_SOCKET_UNMAP,
  DMA_BUF_SOCKET_WAIT,
  dma_buf_socket_fence,
  dma_buf_socket_id,
  dma_buf_socket_info,
  dma_buf_socket_map,
  dma_buf_socket_mapped,
  dma_buf_socket_name,
  dma_buf_socket_open,
  dma_buf_socket_opened,
  dma_buf_socket_range,
  dma_buf_socket_ready,
  dma_buf_socket_signal,
  dma_buf_socket_wait,
} from '../../abi/dma-buf-socket.ts';
import { Errno } from '../../abi/errno.ts';
import { type Fields, packedStruct, type SettableOf, type Struct, type ValueOf, viewOf } from '../../abi/layout.ts';

/** The values of a struct's fields, to read or to write. */
export type Values<F extends Fields> = { [K in keyof F]: ValueOf<F[K]> };
export type Settable<F extends Fields> = { [K in keyof F]?: SettableOf<F[K]> };

export interface MessageType<Q extends Fields, R extends Fields> {
  readonly command: number;
  readonly name: string;
  readonly request: Struct<Q>;
  readonly reply: Struct<R>;
}

const nothing = packedStruct('nothing', 0, {});

function type<Q extends Fields, R extends Fields>(
  command: number,
  request: Struct<Q>,
  reply: Struct<R>,
): MessageType<Q, R> {
  return { command, name: DMA_BUF_SOCKET_COMMAND_NAMES.get(command)!, request, reply };
}

export const OPEN = type(DMA_BUF_SOCKET_OPEN, dma_buf_socket_open, dma_buf_socket_opened);
export const QUERY = type(DMA_BUF_SOCKET_QUERY, nothing, dma_buf_socket_info);
export const SET_NAME = type(DMA_BUF_SOCKET_SET_NAME, dma_buf_socket_name, nothing);
/** The request is an id of 0. */
export const ATTACH = type(DMA_BUF_SOCKET_ATTACH, dma_buf_socket_id, dma_buf_socket_id);
export const DETACH = type(DMA_BUF_SOCKET_DETACH, dma_buf_socket_id, nothing);
/** The reply has ranges after its struct: see `encodeMapped` and `decodeMapped`. */
export const MAP = type(DMA_BUF_SOCKET_MAP, dma_buf_socket_map, dma_buf_socket_mapped);
export const UNMAP = type(DMA_BUF_SOCKET_UNMAP, dma_buf_socket_id, nothing);
export const INVALIDATE = type(DMA_BUF_SOCKET_INVALIDATE, dma_buf_socket_id, nothing);
export const RESTORE = type(DMA_BUF_SOCKET_RESTORE, dma_buf_socket_id, nothing);
export const ADD_FENCE = type(DMA_BUF_SOCKET_ADD_FENCE, dma_buf_socket_fence, dma_buf_socket_id);
export const SIGNAL_FENCE = type(DMA_BUF_SOCKET_SIGNAL_FENCE, dma_buf_socket_signal, nothing);
export const WAIT = type(DMA_BUF_SOCKET_WAIT, dma_buf_socket_wait, dma_buf_socket_ready);

export const NOTHING = new Uint8Array(0);

/** Decodes a payload. Throws `blame` for a size other than that of `struct`, or where reserved bits are set. */
export function decode<F extends Fields>(
  struct: Struct<F>,
  payload: Uint8Array,
  blame: 'EINVAL' | 'EPROTO',
): Values<F> {
  if (payload.length !== struct.sizeof) {
    throw new Errno(blame, `${payload.length} bytes for ${struct.name}, which has ${struct.sizeof}`);
  }
  const values = struct.read(viewOf(payload));
  if ((values as { reserved?: number }).reserved) throw new Errno(blame, `${struct.name}: reserved bits are set`);
  return values;
}

/** Where a range of a mapping lies in a file. */
export interface FileRange {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Encodes the reply to MAP, for ranges that all lie in the reply's one descriptor. */
export function encodeMapped(mapping: number, ranges: readonly FileRange[]): Buffer {
  const { sizeof } = dma_buf_socket_mapped;
  const entry = dma_buf_socket_range;
  const payload = dma_buf_socket_mapped.encode({ mapping, nr_ranges: ranges.length }, ranges.length * entry.sizeof);
  const view = viewOf(payload);
  for (const [i, { offset, sizeBytes }] of ranges.entries()) {
    entry.write(view, sizeof + i * entry.sizeof, { fd_offset: offset, length: sizeBytes, fd_index: 0 });
  }
  return payload;
}

/** Decodes the reply to MAP. EPROTO where it contradicts itself. */
export function decodeMapped(payload: Uint8Array): { mapping: number; ranges: (FileRange & { fdIndex: number })[] } {
  const { sizeof } = dma_buf_socket_mapped;
  const entry = dma_buf_socket_range;
  const { mapping, nr_ranges } = decode(dma_buf_socket_mapped, payload.subarray(0, sizeof), 'EPROTO');
  if (payload.length !== sizeof + nr_ranges * entry.sizeof) {
    throw new Errno('EPROTO', `${nr_ranges} ranges in ${payload.length} bytes`);
  }
  const ranges = Array.from({ length: nr_ranges }, (_, i) => {
    const at = sizeof + i * entry.sizeof;
    const { fd_offset, length, fd_index } = decode(entry, payload.subarray(at, at + entry.sizeof), 'EPROTO');
    return { offset: fd_offset, sizeBytes: length, fdIndex: fd_index };
  });
  return { mapping, ranges };
}
