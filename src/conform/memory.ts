/** The client's memory as the kit keeps it: bytes at I/O addresses, reached by descriptor or by messages. */
import {
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
  VFIO_USER_F_ERROR,
  VFIO_USER_F_TYPE_REPLY,
  vfio_user_dma_region_access,
} from '../abi/vfio-user.ts';
import { commandName } from './exchange.ts';
import { type Incoming, messageBytes, type RawPeer } from './peer.ts';
import { broken, demand } from './verdict.ts';

export interface DmaSeen {
  command: number;
  address: number;
  count: number;
  message: Incoming;
}

/** A reply other than the right one; null sends none. */
export type DmaAnswer = (seen: DmaSeen, right: Buffer) => Buffer | null;

export class TrialMemory {
  readonly address: number;
  readonly bytes: Buffer;
  /** Each DMA_READ and DMA_WRITE that came, in order. */
  readonly seen: DmaSeen[] = [];
  /** Replaces the right reply. */
  answer: DmaAnswer | null = null;

  /** `bytes` may be those of a mapped file, which the device then reaches by itself. */
  constructor(address: number, bytes: Uint8Array) {
    this.address = address;
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  at(address: number, length: number): Buffer {
    const start = address - this.address;
    return this.bytes.subarray(start, start + length);
  }

  holds(address: number, count: number): boolean {
    return address >= this.address && address + count <= this.address + this.bytes.length;
  }

  /** Answers a DMA_READ or DMA_WRITE of the device; broken where it asks for what was never mapped. */
  readonly onCommand = (peer: RawPeer, message: Incoming): void => {
    const { command, view } = message;
    const head = vfio_user_dma_region_access.sizeof;
    const isRead = command === VFIO_USER_DMA_READ;
    demand(isRead || command === VFIO_USER_DMA_WRITE, `the server sent ${commandName(command)}`);
    demand(view.byteLength >= head, `${commandName(command)} of ${view.byteLength} bytes`);
    const { fields } = vfio_user_dma_region_access;
    // A wrong server may name any 64 bits, and `read` throws above 2^53.
    const [addr, count] = [fields.addr, fields.count].map((u64) => Number(u64.getBig(view)));
    if (!isRead)
      demand(view.byteLength === head + count, `DMA_WRITE says ${count} bytes and brings ${view.byteLength - head}`);
    if (!this.holds(addr, count))
      broken(`${commandName(command)} of ${count} bytes at 0x${addr.toString(16)}, not mapped`);
    const seen = { command, address: addr, count, message };
    this.seen.push(seen);
    const right = this.rightReply(seen);
    const reply = this.answer === null ? right : this.answer(seen, right);
    if (reply !== null) peer.send(reply);
  };

  private rightReply(seen: DmaSeen): Buffer {
    const { command, address, count, message } = seen;
    const head = message.payload.subarray(0, vfio_user_dma_region_access.sizeof);
    const place = this.at(address, count);
    if (command === VFIO_USER_DMA_READ) return replyTo(seen, Buffer.concat([head, place]));
    message.payload.copy(place, 0, head.length);
    return replyTo(seen, head);
  }
}

/** A successful reply to a command of the server, right or wrong by its payload. */
export function replyTo({ message }: DmaSeen, payload: Uint8Array): Buffer {
  return messageBytes(message.command, payload, { id: message.id, flags: VFIO_USER_F_TYPE_REPLY });
}

/** An error reply to a command of the server. */
export function errorReply({ message }: DmaSeen, errno: number): Buffer {
  return messageBytes(message.command, new Uint8Array(0), {
    id: message.id,
    flags: VFIO_USER_F_TYPE_REPLY | VFIO_USER_F_ERROR,
    error: errno,
  });
}
