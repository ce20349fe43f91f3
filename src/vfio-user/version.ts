/** VERSION: what both sides can do, as JSON. */
import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  VFIO_USER_CAP_MAX_DATA_XFER_SIZE,
  VFIO_USER_CAP_MAX_DMA_MAPS,
  VFIO_USER_CAP_MAX_MSG_FDS,
  VFIO_USER_CAP_PGSIZES,
  VFIO_USER_CAP_WRITE_MULTIPLE,
  VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_DEFAULT_MAX_MSG_FDS,
  VFIO_USER_DEFAULT_PGSIZES,
  VFIO_USER_MAJOR,
  VFIO_USER_MINOR,
  vfio_user_version,
} from '../abi/vfio-user.ts';
import { LIMITS } from './wire.ts';

/** What one side says of itself. */
export interface Capabilities {
  maxMsgFds: number;
  maxDataXferBytes: number;
  maxDmaMaps: number;
  pageSizes: number;
  writeMultiple: boolean;
}

const OURS: Capabilities = {
  maxMsgFds: LIMITS.maxMsgFds,
  maxDataXferBytes: LIMITS.maxDataXferBytes,
  maxDmaMaps: LIMITS.maxDmaMaps,
  pageSizes: VFIO_USER_DEFAULT_PGSIZES,
  writeMultiple: true,
};

/**
 * The payload of a VERSION message with what Barter can do. QEMU refuses one that is larger than its own: 198 bytes.
 */
export function encodeVersion(): Buffer {
  const json = JSON.stringify({
    capabilities: {
      [VFIO_USER_CAP_MAX_MSG_FDS]: OURS.maxMsgFds,
      [VFIO_USER_CAP_MAX_DATA_XFER_SIZE]: OURS.maxDataXferBytes,
      [VFIO_USER_CAP_MAX_DMA_MAPS]: OURS.maxDmaMaps,
      [VFIO_USER_CAP_PGSIZES]: OURS.pageSizes,
      [VFIO_USER_CAP_WRITE_MULTIPLE]: OURS.writeMultiple,
    },
  });
  const payload = vfio_user_version.encode({ major: VFIO_USER_MAJOR, minor: VFIO_USER_MINOR }, json.length + 1);
  payload.write(json, vfio_user_version.sizeof);
  return payload;
}

/**
 * What the peer's VERSION says; capabilities that it does not name have the protocol's defaults. Any minor version is
 * taken: the lower of the two counts. EINVAL for another major version, or JSON that is none or of the wrong types.
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
  const number = (key: string, otherwise: number, most: number): number => {
    const value = said[key] ?? otherwise;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
      throw new Errno('EINVAL', `VERSION: ${key} is ${JSON.stringify(value)}, wants a number`);
    }
    return Math.min(value, most);
  };
  const writeMultiple = said[VFIO_USER_CAP_WRITE_MULTIPLE] ?? false;
  if (typeof writeMultiple !== 'boolean') {
    throw new Errno('EINVAL', `VERSION: ${VFIO_USER_CAP_WRITE_MULTIPLE} is no boolean`);
  }
  return {
    maxMsgFds: number(VFIO_USER_CAP_MAX_MSG_FDS, VFIO_USER_DEFAULT_MAX_MSG_FDS, LIMITS.maxMsgFds),
    maxDataXferBytes: number(
      VFIO_USER_CAP_MAX_DATA_XFER_SIZE,
      VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
      LIMITS.maxDataXferBytes,
    ),
    maxDmaMaps: number(VFIO_USER_CAP_MAX_DMA_MAPS, VFIO_USER_DEFAULT_MAX_DMA_MAPS, LIMITS.maxDmaMaps),
    pageSizes: number(VFIO_USER_CAP_PGSIZES, VFIO_USER_DEFAULT_PGSIZES, Number.MAX_SAFE_INTEGER),
    writeMultiple,
  };
}

function capabilitiesOf(bytes: Uint8Array): Record<string, unknown> {
  const end = bytes.indexOf(0);
  const text = Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('utf8');
  if (text === '') return {};
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Errno('EINVAL', `VERSION: no JSON: ${(error as Error).message}`);
  }
  const capabilities = isRecord(json) ? (json.capabilities ?? {}) : null;
  if (!isRecord(capabilities)) throw new Errno('EINVAL', 'VERSION: "capabilities" is no object');
  return capabilities;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
