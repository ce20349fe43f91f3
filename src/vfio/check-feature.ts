import { Errno } from '../abi/errno.ts';
import { VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET } from '../abi/vfio-feature.ts';

/**
 * vfio_check_feature: EINVAL unless the flags ask for something in `supported` and the payload has `minBytes`. Returns
 * false for a probe, which the ioctl answers with 0 alone. Returns true when the feature must do its work.
 */
export function checkFeature(
  feature: number,
  flags: number,
  argsz: number,
  supported: number,
  minBytes: number,
): boolean {
  const asked = flags & (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET);
  if ((asked & ~supported) !== 0) throw new Errno('EINVAL', `feature ${feature} has no such GET or SET`);
  if ((flags & VFIO_DEVICE_FEATURE_PROBE) !== 0) return false;
  if (asked === 0) throw new Errno('EINVAL', `feature ${feature} wants GET, SET or PROBE`);
  if (argsz < minBytes) {
    throw new Errno('EINVAL', `feature ${feature} wants ${minBytes} bytes behind the header, argsz leaves ${argsz}`);
  }
  return true;
}
