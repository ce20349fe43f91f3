/** VERSION: each side's capabilities as JSON, and the agreement of the two. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { PAGE_SIZE } from '../../abi/mman.ts';
import { U64_MAX } from '../../abi/u64.ts';
import {
  VFIO_USER_CAP_MAX_BITMAP_SIZE,
  VFIO_USER_CAP_MAX_DATA_XFER_SIZE,
  VFIO_USER_CAP_MAX_DMA_MAPS,
  VFIO_USER_CAP_MAX_MSG_FDS,
  VFIO_USER_CAP_MIGRATION,
  VFIO_USER_CAP_PGSIZE,
  VFIO_USER_CAP_PGSIZES,
  VFIO_USER_CAP_TWIN_SOCKET,
  VFIO_USER_CAP_TWIN_SOCKET_FD_INDEX,
  VFIO_USER_CAP_TWIN_SOCKET_SUPPORTED,
  VFIO_USER_CAP_WRITE_MULTIPLE,
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_DEFAULT_MAX_MSG_FDS,
  VFIO_USER_DEFAULT_PGSIZES,
  VFIO_USER_MAJOR,
  VFIO_USER_MINOR,
  vfio_user_version,
} from '../../abi/vfio-user.ts';
import { LIMITS } from './frame.ts';
import { booleanOf, integerOf, type JsonObject, limitOf, objectOf, parseVersionJson } from './version-json.ts';

/** The peer's capabilities, merged with those of this side: of two limits, the lower. */
export interface Capabilities {
  /** Descriptors that the peer takes with one message. */
  maxMsgFds: number;
  /** The most bytes of one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE. */
  maxDataXferBytes: number;
  /** How many DMA_MAPs the peer keeps at once. */
  maxDmaMaps: number;
  /** The smallest page that both can map, in bytes: DMA_MAP takes multiples of it. */
  pageBytes: number;
  /** Whether the peer knows REGION_WRITE_MULTI. */
  writeMultiple: boolean;
  /** Whether the peer wants or gives a second socket for the server's commands. */
  twinSocket: boolean;
  /** In a reply: the index of that socket's descriptor. */
  twinFdIndex: number | null;
  /** Null where the peer does not migrate. */
  migration: MigrationCapability | null;
}

/** The limits of a peer that migrates. */
export interface MigrationCapability {
  /** The bytes of a dirty bitmap that it takes in one message. */
  maxBitmapBytes: number;
}

/** The sender's choices in a VERSION. The other limits are always sent. */
export interface VersionOffer {
  /** A reply must not exceed the request: QEMU refuses a server that says more than 65,535. */
  maxDmaMaps: number;
  writeMultiple: boolean;
  migration: boolean;
  /** True in a request; in a reply the index of the descriptor. */
  twinSocket: boolean | number;
}

/** This client's proposal. */
export const CLIENT_OFFER: VersionOffer = {
  maxDmaMaps: LIMITS.maxDmaMaps,
  writeMultiple: true,
  migration: true,
  twinSocket: false,
};

/** A dirty bitmap travels in one DEVICE_FEATURE reply. */
const MAX_BITMAP_BYTES = LIMITS.maxDataXferBytes / 2;

/** Encodes the payload of a VERSION message. QEMU refuses a reply that is larger than its own request: 198 bytes. */
export function encodeVersion(offer: VersionOffer = CLIENT_OFFER): Buffer {
  const { maxDmaMaps, writeMultiple, migration, twinSocket } = offer;
  const twin =
    typeof twinSocket === 'number'
      ? { [VFIO_USER_CAP_TWIN_SOCKET_SUPPORTED]: true, [VFIO_USER_CAP_TWIN_SOCKET_FD_INDEX]: twinSocket }
      : { [VFIO_USER_CAP_TWIN_SOCKET_SUPPORTED]: true };
  const json = JSON.stringify({
    capabilities: {
      [VFIO_USER_CAP_MAX_MSG_FDS]: LIMITS.maxMsgFds,
      [VFIO_USER_CAP_MAX_DATA_XFER_SIZE]: LIMITS.maxDataXferBytes,
      [VFIO_USER_CAP_MAX_DMA_MAPS]: maxDmaMaps,
      [VFIO_USER_CAP_PGSIZES]: VFIO_USER_DEFAULT_PGSIZES,
      ...(writeMultiple ? { [VFIO_USER_CAP_WRITE_MULTIPLE]: true } : {}),
      ...(migration
        ? {
            [VFIO_USER_CAP_MIGRATION]: {
              [VFIO_USER_CAP_PGSIZE]: PAGE_SIZE,
              [VFIO_USER_CAP_MAX_BITMAP_SIZE]: MAX_BITMAP_BYTES,
            },
          }
        : {}),
      ...(twinSocket === false ? {} : { [VFIO_USER_CAP_TWIN_SOCKET]: twin }),
    },
  });
  const payload = vfio_user_version.encode({ major: VFIO_USER_MAJOR, minor: VFIO_USER_MINOR }, json.length + 1);
  payload.write(json, vfio_user_version.sizeof);
  return payload;
}

/**
 * Decodes the peer's VERSION. Capabilities that it does not name have the protocol's defaults. Any minor version is
 * accepted; the lower of the two counts. EINVAL for another major version, for invalid JSON or wrong types, and when
 * this side can map none of the page sizes.
 */
export function decodeVersion(payload: Uint8Array): Capabilities {
  if (payload.length < vfio_user_version.sizeof) {
    throw new Errno('EINVAL', `VERSION of ${payload.length} bytes; its struct alone has ${vfio_user_version.sizeof}`);
  }
  const { major } = vfio_user_version.read(viewOf(payload));
  if (major !== VFIO_USER_MAJOR) {
    throw new Errno('EINVAL', `VERSION: major ${major}; this side speaks ${VFIO_USER_MAJOR}`);
  }
  const said = capabilitiesOf(payload.subarray(vfio_user_version.sizeof));
  const twin = objectOf(said, VFIO_USER_CAP_TWIN_SOCKET) ?? {};
  const migration = objectOf(said, VFIO_USER_CAP_MIGRATION);
  const fdIndex = twin[VFIO_USER_CAP_TWIN_SOCKET_FD_INDEX] ?? null;
  const { maxMsgFds, maxDataXferBytes, maxDmaMaps } = LIMITS;
  return {
    maxMsgFds: limitOf(said, VFIO_USER_CAP_MAX_MSG_FDS, VFIO_USER_DEFAULT_MAX_MSG_FDS, maxMsgFds),
    maxDataXferBytes: limitOf(
      said,
      VFIO_USER_CAP_MAX_DATA_XFER_SIZE,
      VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
      maxDataXferBytes,
    ),
    maxDmaMaps: limitOf(said, VFIO_USER_CAP_MAX_DMA_MAPS, VFIO_USER_DEFAULT_MAX_DMA_MAPS, maxDmaMaps),
    pageBytes: smallestPage(integerOf(said, VFIO_USER_CAP_PGSIZES, VFIO_USER_DEFAULT_PGSIZES)),
    writeMultiple: booleanOf(said, VFIO_USER_CAP_WRITE_MULTIPLE),
    twinSocket: booleanOf(twin, VFIO_USER_CAP_TWIN_SOCKET_SUPPORTED),
    twinFdIndex: fdIndex === null ? null : limitOf(twin, VFIO_USER_CAP_TWIN_SOCKET_FD_INDEX, 0, maxMsgFds),
    migration: migration === null ? null : migrationOf(migration),
  };
}

function migrationOf(said: JsonObject): { maxBitmapBytes: number } {
  smallestPage(integerOf(said, VFIO_USER_CAP_PGSIZE, PAGE_SIZE));
  return { maxBitmapBytes: limitOf(said, VFIO_USER_CAP_MAX_BITMAP_SIZE, MAX_BITMAP_BYTES, MAX_BITMAP_BYTES) };
}

/**
 * Returns the smallest page size in bytes. The bits of `sizes` are page sizes; this side maps powers of two from 4096
 * on.
 */
function smallestPage(sizes: bigint): number {
  const mappable = sizes & U64_MAX & ~BigInt(PAGE_SIZE - 1);
  if (mappable === 0n) throw new Errno('EINVAL', `VERSION: pages of ${sizes} bytes; ${PAGE_SIZE} is the smallest here`);
  return Number(mappable & -mappable);
}

function capabilitiesOf(bytes: Uint8Array): JsonObject {
  if (bytes.length === 0) return {};
  const end = bytes.indexOf(0);
  if (end < 0) throw new Errno('EINVAL', 'VERSION: the JSON lacks its terminating zero');
  const text = Buffer.from(bytes.subarray(0, end)).toString('utf8');
  return text === '' ? {} : (objectOf(parseVersionJson(text), 'capabilities') ?? {});
}
