/** The client's side of moving a device. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  vfio_device_feature_mig_data_size,
  vfio_device_feature_mig_state,
  vfio_device_feature_migration,
} from '../../abi/vfio-feature.ts';
import { VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE, vfio_user_mig_data } from '../../abi/vfio-user.ts';
import { ask, type Exchange, mostDataBytes, type Peer, replyOf } from './exchange.ts';
import { getFeature, setFeature } from './feature.ts';

/** Flags of VFIO_DEVICE_FEATURE_MIGRATION. ENOTTY where the device does not migrate. */
export function* migrationFlags(): Exchange<number> {
  const { sizeof, fields } = vfio_device_feature_migration;
  return fields.flags.get(viewOf(yield* getFeature(VFIO_DEVICE_FEATURE_MIGRATION, Buffer.alloc(sizeof))));
}

/** VFIO_DEVICE_STATE_... */
export function* migrationState(): Exchange<number> {
  const { sizeof, fields } = vfio_device_feature_mig_state;
  const data = yield* getFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, Buffer.alloc(sizeof));
  return fields.device_state.get(viewOf(data));
}

/** Sets the state; the reply comes when the device is in it. Errors as Migration.setState (vfio/migration.ts). */
export function* setMigrationState(state: number): Exchange<void> {
  const data = vfio_device_feature_mig_state.encode({ device_state: state });
  yield* setFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, data);
}

/** Returns the most bytes of the device's stream in STOP_COPY. */
export function* migrationBytes(): Exchange<number> {
  const { sizeof, fields } = vfio_device_feature_mig_data_size;
  const data = yield* getFeature(VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, Buffer.alloc(sizeof));
  return fields.stop_copy_length.get(viewOf(data));
}

/**
 * Reads the next piece of the stream, of one message. An empty piece is the end, or in PRE_COPY the end for now. The
 * reply's own size counts: libvfio-user pads a short piece to the size that was asked for.
 */
export function* readMigrationChunk(peer: Peer): Exchange<Buffer> {
  const size = mostDataBytes(peer);
  const head = vfio_user_mig_data.sizeof;
  const payload = yield* ask(VFIO_USER_MIG_DATA_READ, vfio_user_mig_data.encode({ argsz: head + size, size }));
  const length = vfio_user_mig_data.fields.size.get(replyOf(payload, vfio_user_mig_data));
  if (length > size || length > payload.length - head) {
    const came = `${length} in a reply of ${payload.length} bytes`;
    throw new Errno('EPROTO', `MIG_DATA_READ of ${size} bytes, ${peer.path}: answered with ${came}`);
  }
  return payload.subarray(head, head + length);
}

/** Writes to the stream. EINVAL unless the device is RESUMING, and for bytes of another kind of device. */
export function* writeMigrationData(peer: Peer, bytes: Uint8Array): Exchange<void> {
  const most = mostDataBytes(peer);
  const head = vfio_user_mig_data.sizeof;
  for (let at = 0; at < bytes.length; at += most) {
    const part = bytes.subarray(at, at + most);
    const payload = vfio_user_mig_data.encode({ argsz: head + part.length, size: part.length }, part.length);
    payload.set(part, head);
    yield* ask(VFIO_USER_MIG_DATA_WRITE, payload);
  }
}
