/**
 * Tapped messages as packets of a capture, and back. docs/captures.md has the header in front of a message. Wireshark
 * takes at most 256 KiB for one packet, so a longer message is in several packets, one behind the other.
 */
import { packedStruct, u8, u32, u64, viewOf } from '../abi/layout.ts';
import type { FdKind, FdNote } from '../linux/fd-note.ts';
import type { SocketKind, TappedMessage } from '../vfio-user/wire/tap.ts';
import { enhancedPacket, interfaceDescription, MAX_PACKET_BYTES, readCapture, sectionHeader } from './pcapng.ts';

const KINDS: readonly SocketKind[] = ['vfio-user', 'twin', 'dma-buf'];
const FD_KINDS: readonly FdKind[] = ['other', 'file', 'eventfd', 'socket'];
const VERSION = 1;
const FLAG_SENT = 1 << 0; // by the server
const FLAG_CONTINUED = 1 << 1; // follows the packet before it

/** In front of each part of a message. A message of no bytes says that the connection ended. */
const barter_capture_header = packedStruct('barter_capture_header', 16, {
  version: u8(0),
  kind: u8(1), // index in KINDS
  flags: u8(2),
  fds: u8(3), // the number of barter_capture_fd that follow
  connection: u32(4),
  pid: u32(8),
  length: u32(12), // of the whole message
});

const barter_capture_fd = packedStruct('barter_capture_fd', 16, {
  kind: u32(0), // index in FD_KINDS
  reserved: u32(4),
  size: u64(8),
});

/** Encodes messages in the order of their coming. */
export class CaptureEncoder {
  private readonly interfaces = new Map<string, number>();

  /** The first bytes of a file. */
  begin(application: string): Buffer {
    this.interfaces.clear();
    return sectionHeader(application);
  }

  /** `lost`: the number of messages that were lost before this one. */
  encode(message: TappedMessage, lost: number): Buffer {
    const { atMs, kind, device, isSent, bytes } = message;
    const name = `${device} ${kind}`;
    const known = this.interfaces.get(name);
    const interfaceId = known ?? this.interfaces.size;
    const description = `${kind} socket of device ${device}`;
    const blocks = known === undefined ? [interfaceDescription({ name, description })] : [];
    let at = 0;
    do {
      const head = headOf(message, at > 0);
      const part = bytes.subarray(at, at + MAX_PACKET_BYTES - head.length);
      const packet = { interfaceId, atMs, isOutbound: isSent, lost: at > 0 ? 0 : lost };
      blocks.push(enhancedPacket({ ...packet, bytes: Buffer.concat([head, part]) }));
      at += part.length;
    } while (at < bytes.length);
    return Buffer.concat(blocks);
  }

  /** Called after each encoded message that is in the file, with its device and kind: its interface is known now. */
  wrote({ device, kind }: TappedMessage): void {
    const name = `${device} ${kind}`;
    if (!this.interfaces.has(name)) this.interfaces.set(name, this.interfaces.size);
  }
}

function headOf({ kind, connection, pid, isSent, fds, bytes }: TappedMessage, isContinued: boolean): Buffer {
  const noted = isContinued ? [] : fds;
  const flags = (isSent ? FLAG_SENT : 0) | (isContinued ? FLAG_CONTINUED : 0);
  const header = { version: VERSION, kind: KINDS.indexOf(kind), flags, fds: noted.length };
  return Buffer.concat([
    barter_capture_header.encode({ ...header, connection, pid, length: bytes.length }),
    ...noted.map((fd) => barter_capture_fd.encode({ kind: FD_KINDS.indexOf(fd.kind), size: BigInt(fd.sizeBytes) })),
  ]);
}

export interface DecodedCapture {
  messages: TappedMessage[];
  /** The file ends within a message, as one does whose writer was killed. */
  isCut: boolean;
}

/** Returns the messages of a capture file. Throws Error with the reason for any other file. */
export function decodeCapture(file: Buffer): DecodedCapture {
  const { packets, isCut } = readCapture(file);
  const messages: TappedMessage[] = [];
  let open: { message: TappedMessage; length: number } | null = null;
  for (const [i, { interfaceName, atMs, bytes }] of packets.entries()) {
    const where = `packet ${i + 1}`;
    const { header, fds, part } = partOf(bytes, where);
    if (((header.flags & FLAG_CONTINUED) !== 0) !== (open !== null)) throw new Error(`${where}: a part is missing`);
    const kind = KINDS[header.kind];
    const { connection, pid } = header;
    const isSent = (header.flags & FLAG_SENT) !== 0;
    const device = interfaceName.slice(0, -kind.length - 1);
    open ??= {
      message: { atMs, kind, device, connection, pid, isSent, fds, bytes: new Uint8Array() },
      length: header.length,
    };
    open.message.bytes = Buffer.concat([open.message.bytes, part]);
    if (open.message.bytes.length > open.length) throw new Error(`${where}: it is longer than its message`);
    if (open.message.bytes.length < open.length) continue;
    messages.push(open.message);
    open = null;
  }
  return { messages, isCut: isCut || open !== null };
}

function partOf(bytes: Buffer, where: string) {
  if (bytes.length < barter_capture_header.sizeof) throw new Error(`${where}: too short for the header of a capture`);
  const header = barter_capture_header.read(viewOf(bytes));
  if (header.version !== VERSION || header.kind >= KINDS.length) {
    throw new Error(`${where}: version ${header.version}, kind ${header.kind}; this barter knows version ${VERSION}`);
  }
  const start = barter_capture_header.sizeof + header.fds * barter_capture_fd.sizeof;
  if (bytes.length < start) throw new Error(`${where}: too short for its descriptors`);
  const fds = Array.from({ length: header.fds }, (_, i): FdNote => {
    const { kind, size } = barter_capture_fd.read(
      viewOf(bytes),
      barter_capture_header.sizeof + i * barter_capture_fd.sizeof,
    );
    return { kind: FD_KINDS[kind] ?? 'other', sizeBytes: Number(size) };
  });
  return { header, fds, part: bytes.subarray(start) };
}
