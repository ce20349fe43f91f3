/**
 * Files of packets in the format that Wireshark reads (draft-ietf-opsawg-pcapng). The link type is USER0, which is for
 * private use.
 */
import { viewOf } from '../abi/layout.ts';

/** An interface of the capture: one socket of a device. */
export interface CaptureInterface {
  name: string;
  description: string;
}

export interface CapturePacket {
  /** Index of the interface, in the order of their blocks. */
  interfaceId: number;
  /** Milliseconds since the epoch, with fractions. */
  atMs: number;
  /** Inbound is to the server. */
  isOutbound: boolean;
  /** Packets that were lost since the one before. */
  lost: number;
  bytes: Uint8Array;
}

const LINKTYPE_USER0 = 147;
/** Wireshark refuses a file with a longer packet of this link type (WTAP_MAX_PACKET_SIZE_STANDARD). */
export const MAX_PACKET_BYTES = 262_144;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPTION = { end: 0, shbUserAppl: 4, ifName: 2, ifDescription: 3, ifTsresol: 9, epbFlags: 2, epbDropCount: 4 };
const [INBOUND, OUTBOUND] = [1, 2];
/** Timestamps count nanoseconds: 10 to the power of -9. */
const NANOSECONDS = 9;

/** The first bytes of a file. */
export function sectionHeader(application: string): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  body.writeUInt16LE(1, 4);
  // The section's length is not known yet.
  body.writeBigInt64LE(-1n, 8);
  return block(SECTION_HEADER, body, [[OPTION.shbUserAppl, Buffer.from(application)]]);
}

export function interfaceDescription({ name, description }: CaptureInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(LINKTYPE_USER0, 0);
  return block(INTERFACE_DESCRIPTION, body, [
    [OPTION.ifName, Buffer.from(name)],
    [OPTION.ifDescription, Buffer.from(description)],
    [OPTION.ifTsresol, Buffer.from([NANOSECONDS])],
  ]);
}

export function enhancedPacket({ interfaceId, atMs, isOutbound, lost, bytes }: CapturePacket): Buffer {
  const head = Buffer.alloc(20);
  const nanoseconds = BigInt(Math.floor(atMs)) * 1_000_000n + BigInt(Math.floor((atMs % 1) * 1e6));
  head.writeUInt32LE(interfaceId, 0);
  head.writeUInt32LE(Number(nanoseconds >> 32n), 4);
  head.writeUInt32LE(Number(nanoseconds & 0xffff_ffffn), 8);
  head.writeUInt32LE(bytes.length, 12);
  head.writeUInt32LE(bytes.length, 16);
  const flags = Buffer.alloc(4);
  flags.writeUInt32LE(isOutbound ? OUTBOUND : INBOUND);
  const drops = Buffer.alloc(8);
  drops.writeBigUInt64LE(BigInt(lost));
  return block(ENHANCED_PACKET, Buffer.concat([head, padded(bytes)]), [
    [OPTION.epbFlags, flags],
    ...(lost > 0 ? [[OPTION.epbDropCount, drops] as const] : []),
  ]);
}

function block(type: number, body: Buffer, options: readonly (readonly [number, Buffer])[]): Buffer {
  const encoded = [...options, [OPTION.end, Buffer.alloc(0)] as const].map(([code, value]) => {
    const head = Buffer.alloc(4);
    head.writeUInt16LE(code, 0);
    head.writeUInt16LE(value.length, 2);
    return Buffer.concat([head, padded(value)]);
  });
  const content = Buffer.concat([body, ...encoded]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32LE(type, 0);
  frame.writeUInt32LE(content.length + 12, 4);
  return Buffer.concat([frame, content, frame.subarray(4)]);
}

/** Blocks and options are multiples of four bytes. */
function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** Whether a file begins as a capture does. */
export function isCapture(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && viewOf(bytes).getUint32(0, true) === SECTION_HEADER;
}

export interface ReadPacket {
  interfaceName: string;
  atMs: number;
  bytes: Buffer;
}

/** A section's interfaces while it is read, and all packets so far. */
interface Reading {
  names: string[];
  readonly packets: ReadPacket[];
}

/**
 * Reads packets of link type USER0. `isCut`: the file ends within a block, as one does whose writer was killed. Throws
 * Error with the place of the first fault. Skips blocks and options that it does not know.
 */
export function readCapture(file: Buffer): { packets: ReadPacket[]; isCut: boolean } {
  if (!isCapture(file)) throw new Error('it does not begin as a pcapng file does');
  const reading: Reading = { names: [], packets: [] };
  for (let at = 0; at < file.length; ) {
    if (at + 12 > file.length) return { packets: reading.packets, isCut: true };
    const size = file.readUInt32LE(at + 4);
    if (size < 12 || size % 4 !== 0) throw new Error(`the block at byte ${at} has a size of ${size}`);
    if (at + size > file.length) return { packets: reading.packets, isCut: true };
    if (file.readUInt32LE(at + size - 4) !== size) throw new Error(`the block at byte ${at} has two sizes`);
    readBlock(file.readUInt32LE(at), file.subarray(at + 8, at + size - 4), at, reading);
    at += size;
  }
  return { packets: reading.packets, isCut: false };
}

function readBlock(type: number, body: Buffer, at: number, reading: Reading): void {
  if (type === SECTION_HEADER) {
    if (body.length < 16 || body.readUInt32LE(0) !== BYTE_ORDER_MAGIC) {
      throw new Error(`the section at byte ${at} has the other byte order`);
    }
    reading.names = [];
  }
  if (type === INTERFACE_DESCRIPTION) {
    if (body.length < 8 || body.readUInt16LE(0) !== LINKTYPE_USER0) {
      throw new Error(`the interface at byte ${at} is not of link type USER0 (${LINKTYPE_USER0})`);
    }
    reading.names.push(optionText(body.subarray(8), OPTION.ifName) ?? '');
  }
  if (type !== ENHANCED_PACKET) return;
  if (body.length < 20) throw new Error(`the packet at byte ${at} is too short`);
  const interfaceName = reading.names[body.readUInt32LE(0)];
  const [length, original] = [body.readUInt32LE(12), body.readUInt32LE(16)];
  if (interfaceName === undefined) throw new Error(`the packet at byte ${at} is of an unknown interface`);
  if (20 + length > body.length) throw new Error(`the packet at byte ${at} is longer than its block`);
  if (length !== original) throw new Error(`the packet at byte ${at} is cut short: ${length} of ${original} bytes`);
  const nanoseconds = (BigInt(body.readUInt32LE(4)) << 32n) | BigInt(body.readUInt32LE(8));
  // A double holds today's milliseconds with their fractions, but not today's nanoseconds.
  const atMs = Number(nanoseconds / 1_000_000n) + Number(nanoseconds % 1_000_000n) / 1e6;
  reading.packets.push({ interfaceName, atMs, bytes: body.subarray(20, 20 + length) });
}

function optionText(options: Buffer, wanted: number): string | null {
  for (let at = 0; at + 4 <= options.length; ) {
    const [code, length] = [options.readUInt16LE(at), options.readUInt16LE(at + 2)];
    if (code === wanted) return options.subarray(at + 4, at + 4 + length).toString('utf8');
    if (code === OPTION.end) return null;
    at += 4 + length + (-length & 3);
  }
  return null;
}
