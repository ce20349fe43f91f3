/** DEVICE_FEATURE on the client's side. */
import { Errno } from '../../abi/errno.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
} from '../../abi/vfio-feature.ts';
import { VFIO_USER_DEVICE_FEATURE } from '../../abi/vfio-user.ts';
import { type Answer, ask, type Exchange, RefusedError, replyOf } from './exchange.ts';

const HEAD = vfio_device_feature.sizeof;

/** Sends DEVICE_FEATURE with an argument that starts with its header. The caller closes the reply's descriptors. */
export function* deviceFeature(argument: Uint8Array, fds: readonly number[] = []): Exchange<Answer> {
  return yield { command: VFIO_USER_DEVICE_FEATURE, payload: argument, fds, takesFds: true };
}

/** Reads a feature's own data: as many bytes as `data` and `moreBytes` together. EPROTO for fewer. */
export function* getFeature(feature: number, data: Uint8Array, moreBytes = 0): Exchange<Buffer> {
  const wanted = data.length + moreBytes;
  const head = vfio_device_feature.encode({ argsz: HEAD + wanted, flags: feature | VFIO_DEVICE_FEATURE_GET });
  const payload = yield* ask(VFIO_USER_DEVICE_FEATURE, Buffer.concat([head, data]));
  replyOf(payload, vfio_device_feature);
  if (payload.length < HEAD + wanted) {
    throw new Errno('EPROTO', `DEVICE_FEATURE ${feature}: ${payload.length} bytes came for ${HEAD + wanted}`);
  }
  return payload.subarray(HEAD, HEAD + wanted);
}

/** Sets a feature; returns the data of the reply. */
export function* setFeature(feature: number, data: Uint8Array): Exchange<Buffer> {
  const head = vfio_device_feature.encode({ argsz: HEAD + data.length, flags: feature | VFIO_DEVICE_FEATURE_SET });
  const payload = yield* ask(VFIO_USER_DEVICE_FEATURE, Buffer.concat([head, data]));
  return payload.subarray(HEAD);
}

/** Whether the server has a feature, and takes `way` of it (VFIO_DEVICE_FEATURE_GET or _SET). */
export function* hasFeature(feature: number, way: number): Exchange<boolean> {
  const flags = feature | way | VFIO_DEVICE_FEATURE_PROBE;
  try {
    yield* ask(VFIO_USER_DEVICE_FEATURE, vfio_device_feature.encode({ argsz: HEAD, flags }));
    return true;
  } catch (error) {
    if (error instanceof RefusedError) return false;
    throw error;
  }
}
