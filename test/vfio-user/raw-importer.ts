/** An importer that sends any bytes through a dma-buf's descriptor, and ignores its duties. */
import {
  DMA_BUF_SOCKET_ATTACH,
  DMA_BUF_SOCKET_MAP,
  DMA_BUF_SOCKET_OPEN,
  dma_buf_socket_id,
  dma_buf_socket_map,
  dma_buf_socket_open,
} from '../../src/abi/dma-buf-socket.ts';
import { ERRNO, errnoName } from '../../src/abi/errno.ts';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, retry } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { setSocketTimeout, socketPair } from '../../src/linux/socket.ts';
import { message, type RawHeader } from './raw-client.ts';

const MSG_DONTWAIT = 0x40;
const HEADER_BYTES = 16;

export interface RawPacket {
  id: number;
  command: number;
  isReply: boolean;
  error: number;
  payload: Buffer;
  fds: OwnedFd[];
}

/** Sends one packet unchanged; returns sendmsg's result. */
export function sendPacket(socket: number, bytes: Uint8Array, fds: readonly number[] = []): number {
  const copy = new Pinned(bytes.length);
  copy.bytes.set(bytes);
  const outgoing = new Message(1, 253);
  outgoing.setIov(0, copy.address, bytes.length);
  return outgoing.sendmsg(socket, MSG_DONTWAIT, fds);
}

export const OPEN = message({ command: DMA_BUF_SOCKET_OPEN }, dma_buf_socket_open.encode({ major: 1 }));

/** One end of a connection in packets. */
export class PacketEnd {
  readonly socket: OwnedFd;
  private readonly incoming = new Message(1, 16);
  private readonly buffer = new Pinned(65536);

  /** Takes ownership of `socket`. */
  constructor(socket: OwnedFd) {
    this.socket = socket;
    this.incoming.setIov(0, this.buffer.address, this.buffer.bytes.length);
  }

  send(header: RawHeader, payload: Uint8Array = new Uint8Array(0), fds: readonly number[] = []): number {
    return sendPacket(this.socket.fd, message(header, payload), fds);
  }

  /** The next packet; null at the end of the session, undefined if there is none (`wait` false) or none comes. */
  receive(wait = true): RawPacket | null | undefined {
    const received = retry(() => this.incoming.recvmsg(this.socket.fd, wait ? 0 : MSG_DONTWAIT));
    if (received === -ERRNO.EAGAIN) return undefined;
    if (received <= 0) return null;
    const { bytes } = this.buffer;
    return {
      id: bytes.readUInt16LE(0),
      command: bytes.readUInt16LE(2),
      isReply: (bytes.readUInt32LE(8) & 1) === 1,
      error: bytes.readUInt32LE(12),
      payload: Buffer.from(bytes.subarray(HEADER_BYTES, received)),
      fds: this.incoming.takeFds('descriptor of a test'),
    };
  }

  close(): void {
    this.incoming.close();
    this.socket.close();
  }
}

export class RawImporter extends PacketEnd {
  /** Sends OPEN. Its reply is the first packet. */
  constructor(dmabuf: OwnedFd, open: Uint8Array = OPEN) {
    const [ours, theirs] = socketPair('raw importer', SOCK_SEQPACKET);
    setSocketTimeout(ours, 5000);
    super(ours);
    sendPacket(dmabuf.fd, open, [theirs.fd]);
    theirs.close();
  }

  /** A session after OPEN. */
  static ready(dmabuf: OwnedFd): RawImporter {
    const importer = new RawImporter(dmabuf);
    const answer = importer.receive();
    if (answer?.error !== 0) throw new Error(`OPEN was answered with ${answer?.error}`);
    return importer;
  }

  /** The name of the errno in a request's reply; 'ok', or 'closed'. Skips the exporter's other messages. */
  outcome(header: RawHeader, payload?: Uint8Array, fds?: readonly number[]): string {
    this.send(header, payload, fds);
    for (;;) {
      const packet = this.receive();
      if (packet === null) return 'closed';
      if (packet === undefined) return 'silence';
      for (const fd of packet.fds) fd.close();
      if (packet.isReply && packet.id === (header.id ?? 1)) return packet.error === 0 ? 'ok' : errnoName(packet.error);
    }
  }

  /** The first word of the reply's payload: an id. */
  private idOf(command: number, payload: Uint8Array): number {
    this.send({ command }, payload);
    const packet = this.receive();
    if (packet?.error !== 0) throw new Error(`command ${command}: errno ${packet?.error}`);
    for (const fd of packet.fds) fd.close();
    return packet.payload.readUInt32LE(0);
  }

  attach(): number {
    return this.idOf(DMA_BUF_SOCKET_ATTACH, dma_buf_socket_id.encode({}));
  }

  /** Returns the mapping's id. */
  map(attachment: number): number {
    return this.idOf(DMA_BUF_SOCKET_MAP, dma_buf_socket_map.encode({ attachment, flags: 3 }));
  }
}
