/** The device's own account of itself, read once with raw messages, so that each rule can be short. */
import { VFIO_REGION_INFO_FLAG_CAPS, vfio_info_cap_header, vfio_irq_info, vfio_region_info } from '../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import {
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_DEFAULT_MAX_MSG_FDS,
  VFIO_USER_DEFAULT_PGSIZES,
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_REGION_READ,
  VFIO_USER_VERSION,
  vfio_user_device_info,
  vfio_user_region_access,
} from '../abi/vfio-user.ts';
import type { Incoming, RawPeer } from './peer.ts';
import * as request from './requests.ts';
import { demand } from './verdict.ts';

export const CONFIG = 7;
/** More regions or interrupt types than this are not asked for. */
const MOST_INDEXES = 32;
const MOST_CAPABILITIES = 16;

export interface RegionCapability {
  id: number;
  version: number;
  /** Its place in the reply's payload. */
  at: number;
  next: number;
}

export interface RegionFacts {
  index: number;
  /** The full reply, or null where the server refused. */
  reply: Buffer | null;
  argsz: number;
  flags: number;
  capOffset: number;
  size: number;
  offset: number;
  /** Descriptors that came with the reply. */
  fds: number;
  capabilities: RegionCapability[];
  /** Why the chain of capabilities cannot be followed; null where it can. */
  chainFault: string | null;
}

export interface IrqFacts {
  index: number;
  reply: Buffer | null;
  flags: number;
  count: number;
}

/** The capabilities that the server named, or the protocol's defaults. */
export interface Limits {
  maxMsgFds: number;
  maxDataXferBytes: number;
  maxDmaMaps: number;
  pageSize: number;
  writeMultiple: boolean;
}

export interface Facts {
  /** The VERSION reply's payload. */
  version: Buffer;
  limits: Limits;
  flags: number;
  numRegions: number;
  numIrqs: number;
  regions: RegionFacts[];
  irqs: IrqFacts[];
  /** Config space, as far as the region goes. */
  config: Buffer;
  /** The flags of the migration feature; null without it. */
  migration: number | null;
  logging: boolean;
  /** Whether the server knows GET_REGION_IO_FDS at all. */
  ioFds: boolean;
}

/** What the kit proposes unless a rule is about the proposal. */
export const PROPOSAL = {
  max_msg_fds: 16,
  max_data_xfer_size: 1048576,
  max_dma_maps: 65535,
  pgsizes: 4096,
  write_multiple: true,
  migration: { pgsize: 4096, max_bitmap_size: 268435456 },
};

/** Agrees on a version as every rule does that is not about it. */
export function handshake(peer: RawPeer): Incoming {
  return peer.ok(VFIO_USER_VERSION, request.proposal(PROPOSAL));
}

/** Reads everything. Broken where not even VERSION and DEVICE_GET_INFO work. */
export function readFacts(peer: RawPeer): Facts {
  const version = handshake(peer).payload;
  const { view } = peer.ok(VFIO_USER_DEVICE_GET_INFO, request.deviceInfo());
  demand(view.byteLength >= vfio_user_device_info.sizeof, `DEVICE_GET_INFO brought ${view.byteLength} bytes`);
  const info = vfio_user_device_info.read(view);
  const regions = indexes(info.num_regions).map((index) => readRegion(peer, index));
  const irqs = indexes(info.num_irqs).map((index) => readIrq(peer, index));
  const migration = feature(peer, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION);
  return {
    version,
    limits: limitsOf(version),
    flags: info.flags,
    numRegions: info.num_regions,
    numIrqs: info.num_irqs,
    regions,
    irqs,
    config: readConfig(peer, regions[CONFIG]?.size ?? 0),
    migration: migration === null || migration.payload.length < 16 ? null : migration.view.getUint32(8, true),
    logging:
      feature(peer, VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START) !==
      null,
    ioFds: regions.some(({ index, size }) => size > 0 && answersIoFds(peer, index)),
  };
}

function indexes(count: number): number[] {
  return Array.from({ length: Math.min(count, MOST_INDEXES) }, (_, index) => index);
}

function limitsOf(version: Buffer): Limits {
  const end = version.indexOf(0, 4);
  const text = version.toString('utf8', 4, end < 0 ? version.length : end);
  let said: Record<string, unknown> = {};
  try {
    said = JSON.parse(text === '' ? '{}' : text).capabilities ?? {};
  } catch {
    // The rules of the group VERSION report it.
  }
  const number = (name: string, otherwise: number) => (typeof said[name] === 'number' ? said[name] : otherwise);
  const pgsizes = BigInt(Math.trunc(number('pgsizes', VFIO_USER_DEFAULT_PGSIZES)));
  return {
    maxMsgFds: number('max_msg_fds', VFIO_USER_DEFAULT_MAX_MSG_FDS),
    maxDataXferBytes: number('max_data_xfer_size', VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE),
    maxDmaMaps: number('max_dma_maps', VFIO_USER_DEFAULT_MAX_DMA_MAPS),
    pageSize: Number(pgsizes & -pgsizes) || VFIO_USER_DEFAULT_PGSIZES,
    writeMultiple: said.write_multiple === true,
  };
}

/** Asks for a region, and again with the room that the first reply names. */
function readRegion(peer: RawPeer, index: number): RegionFacts {
  let reply = peer.call(VFIO_USER_DEVICE_GET_REGION_INFO, request.regionInfo(index));
  const wants = reply.failed || reply.payload.length < vfio_region_info.sizeof ? 0 : reply.view.getUint32(0, true);
  if (wants > 4096 && wants < 1 << 20) {
    reply = peer.call(VFIO_USER_DEVICE_GET_REGION_INFO, request.regionInfo(index, wants));
  }
  const nothing = { index, argsz: 0, flags: 0, capOffset: 0, size: 0, offset: 0, capabilities: [], chainFault: null };
  if (reply.failed || reply.payload.length < vfio_region_info.sizeof) {
    return { ...nothing, reply: reply.failed ? null : reply.payload, fds: reply.fds.length };
  }
  const { fields } = vfio_region_info;
  const [argsz, flags, capOffset] = [fields.argsz, fields.flags, fields.cap_offset].map((u32) => u32.get(reply.view));
  // A wrong server may name any 64 bits, and `read` throws above 2^53.
  const [size, offset] = [fields.size, fields.offset].map((u64) => Number(u64.getBig(reply.view)));
  const chain =
    (flags & VFIO_REGION_INFO_FLAG_CAPS) === 0 ? { capabilities: [], chainFault: null } : chainOf(reply, capOffset);
  return { index, reply: reply.payload, argsz, flags, capOffset, size, offset, fds: reply.fds.length, ...chain };
}

function chainOf({ payload, view }: Incoming, first: number): Pick<RegionFacts, 'capabilities' | 'chainFault'> {
  const capabilities: RegionCapability[] = [];
  for (let at = first; at !== 0; ) {
    const outside = at < vfio_region_info.sizeof || at + vfio_info_cap_header.sizeof > payload.length;
    if (outside) return { capabilities, chainFault: `a capability at ${at} of ${payload.length} bytes` };
    if (capabilities.length === MOST_CAPABILITIES) return { capabilities, chainFault: 'the chain does not end' };
    const header = vfio_info_cap_header.read(view, at);
    capabilities.push({ ...header, at });
    at = header.next;
  }
  return { capabilities, chainFault: null };
}

function readIrq(peer: RawPeer, index: number): IrqFacts {
  const reply = peer.call(VFIO_USER_DEVICE_GET_IRQ_INFO, request.irqInfo(index));
  if (reply.failed || reply.payload.length < vfio_irq_info.sizeof) {
    return { index, reply: reply.failed ? null : reply.payload, flags: 0, count: 0 };
  }
  const { flags, count } = vfio_irq_info.read(reply.view);
  return { index, reply: reply.payload, flags, count };
}

function readConfig(peer: RawPeer, size: number): Buffer {
  const count = Math.min(size, 4096);
  if (count === 0) return Buffer.alloc(0);
  const reply = peer.call(VFIO_USER_REGION_READ, request.access(CONFIG, 0, count));
  const head = vfio_user_region_access.sizeof;
  return reply.failed || reply.payload.length < head + count ? Buffer.alloc(0) : reply.payload.subarray(head);
}

function feature(peer: RawPeer, flags: number): Incoming | null {
  const reply = peer.call(VFIO_USER_DEVICE_FEATURE, request.feature(flags));
  return reply.failed ? null : reply;
}

function answersIoFds(peer: RawPeer, index: number): boolean {
  return !peer.call(VFIO_USER_DEVICE_GET_REGION_IO_FDS, request.ioFds(index)).failed;
}
