/** A chain of descriptors that a driver made available (virtio 1.3, 2.7.5): its buffers, checked. */
import { VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, vring_desc } from '../../abi/virtio.ts';
import type { Task } from '../../task/op.ts';
import { ADDRESS_END, addressAt } from '../bus-address.ts';
import type { DeviceDma } from './dma.ts';

/** The most descriptors of a chain. Linux makes indirect chains that are longer than their queue. */
const MAX_CHAIN = 1024;
/** Virtio 1.3, 2.7.5: a chain has at most this many bytes. */
const MAX_CHAIN_BYTES = 2 ** 32;
const DESCRIPTOR_BYTES = vring_desc.sizeof;

/** The driver broke a rule of the queue: the device stops until it is reset. */
export class VirtqueueError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'VirtqueueError';
  }
}

interface Segment {
  readonly address: number;
  readonly length: number;
}

/** The buffers of one chain: first those that the device reads, then those that it writes. */
export class Chain {
  readonly head: number;
  readonly readableBytes: number;
  readonly writableBytes: number;
  private readonly readable: readonly Segment[];
  private readonly writable: readonly Segment[];
  private readonly dma: DeviceDma;

  constructor(head: number, readable: readonly Segment[], writable: readonly Segment[], dma: DeviceDma) {
    this.head = head;
    this.readable = readable;
    this.writable = writable;
    this.readableBytes = sumOf(readable);
    this.writableBytes = sumOf(writable);
    this.dma = dma;
  }

  /** Reads from byte `offset` of the readable part; returns how many bytes of `into` there were. */
  *read(offset: number, into: Uint8Array): Task<number> {
    let done = 0;
    for (const { address, part } of parts(this.readable, offset, into)) {
      yield* this.dma.read(address, part, 'a buffer of a chain');
      done += part.length;
    }
    return done;
  }

  /** Writes `from` to the start of the writable part, as far as there is room; returns how many bytes fit. */
  *write(from: Uint8Array): Task<number> {
    let done = 0;
    for (const { address, part } of parts(this.writable, 0, from)) {
      yield* this.dma.write(address, part, 'a buffer of a chain');
      done += part.length;
    }
    return done;
  }
}

function sumOf(segments: readonly Segment[]): number {
  return segments.reduce((sum, { length }) => sum + length, 0);
}

/** The pieces of `bytes` by the segments that they go to, from byte `offset` of the segments on. */
function* parts(
  segments: readonly Segment[],
  offset: number,
  bytes: Uint8Array,
): Generator<{ address: number; part: Uint8Array }> {
  let skip = offset;
  let at = 0;
  for (const { address, length } of segments) {
    if (at === bytes.length) return;
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const part = bytes.subarray(at, at + length - skip);
    yield { address: address + skip, part };
    at += part.length;
    skip = 0;
  }
}

/** Where descriptors lie: a queue's own table, or an indirect one. */
interface Table {
  readonly address: number;
  readonly count: number;
}

/** Collects the chain from descriptor `head` on. VirtqueueError for a chain that breaks the rules. */
export function* readChain(dma: DeviceDma, queue: Table, head: number, allowsIndirect: boolean): Task<Chain> {
  const readable: Segment[] = [];
  const writable: Segment[] = [];
  const buffer = new Uint8Array(DESCRIPTOR_BYTES);
  const view = new DataView(buffer.buffer);
  const { addr, len, flags, next } = vring_desc.fields;
  let table = queue;
  let index = head;
  let bytes = 0;
  for (let seen = 1; ; seen++) {
    if (index >= table.count) throw new VirtqueueError(`descriptor ${index} of a table of ${table.count}`);
    if (seen > MAX_CHAIN || (table === queue && seen > queue.count)) throw new VirtqueueError('a chain without end');
    yield* dma.read(table.address + index * DESCRIPTOR_BYTES, buffer, 'a descriptor');
    const control = flags.get(view);
    const address = addressAt(view, addr.offset);
    const length = len.get(view);
    if (address + length > ADDRESS_END) throw new VirtqueueError(`a buffer at 0x${address.toString(16)}`);
    if ((control & VRING_DESC_F_INDIRECT) !== 0) {
      if (!allowsIndirect) throw new VirtqueueError('an indirect table, which was not negotiated');
      table = indirectTable(table === queue, control, address, length);
      index = 0;
      continue;
    }
    bytes += length;
    if (bytes > MAX_CHAIN_BYTES) throw new VirtqueueError('a chain of more than 4 GiB');
    if ((control & VRING_DESC_F_WRITE) !== 0) writable.push({ address, length });
    else if (writable.length > 0) throw new VirtqueueError('a buffer to read after one to write');
    else readable.push({ address, length });
    if ((control & VRING_DESC_F_NEXT) === 0) return new Chain(head, readable, writable, dma);
    index = next.get(view);
  }
}

function indirectTable(isOuter: boolean, control: number, address: number, length: number): Table {
  if (!isOuter) throw new VirtqueueError('an indirect table in an indirect table');
  if ((control & VRING_DESC_F_NEXT) !== 0) throw new VirtqueueError('an indirect table and a next descriptor');
  if (length === 0 || length % DESCRIPTOR_BYTES !== 0) {
    throw new VirtqueueError(`an indirect table of ${length} bytes`);
  }
  return { address, count: length / DESCRIPTOR_BYTES };
}
