/** VFIO_DEVICE_FEATURE: the envelope that all features share, and the list of features that a vfio-pci device has. */
import { Errno } from '../abi/errno.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from '../abi/vfio-feature.ts';
import type { Task } from '../task/op.ts';
import { type ExportingDevice, featureDmaBuf } from './dmabuf-export.ts';
import { featureDmaBufRevoke } from './dmabuf-revoke.ts';
import { featureDmaBufTph } from './dmabuf-tph.ts';
import { featureMigDataSize, featureMigration, featureMigState, type MigratableDevice } from './migration-feature.ts';
import {
  featureLowPowerEntry,
  featureLowPowerEntryWithWakeup,
  featureLowPowerExit,
  type SleepingDevice,
} from './pm.ts';
import type { Proposed } from './profile.ts';
import { featureVfToken, type TokenDevice } from './token.ts';
import type { Caller, UserMemory } from './user.ts';

/** struct vfio_device_feature: u32 argsz, u32 flags, then the feature's own bytes. */
const HEADER_BYTES = 8;

/** A device that has all features. */
export type FeatureDevice = ExportingDevice & MigratableDevice & SleepingDevice & TokenDevice;

/** A feature; `payload` starts behind the header and `argsz` counts from its start. Returns the ioctl's value. */
type Feature = (vdev: FeatureDevice, flags: number, payload: UserMemory, argsz: number, caller: Caller) => Task<number>;

const FEATURES = new Map<number, Feature>([
  [VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, featureVfToken],
  [VFIO_DEVICE_FEATURE_MIGRATION, featureMigration],
  [VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, featureMigState],
  [VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, featureMigDataSize],
  [VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, featureLowPowerEntry],
  [VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, featureLowPowerEntryWithWakeup],
  [VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, featureLowPowerExit],
  [VFIO_DEVICE_FEATURE_DMA_BUF, featureDmaBuf],
]);

/**
 * The ioctl on `arg`, which starts with its header. Returns the ioctl's result: 0, or a descriptor. EFAULT where the
 * header cannot be read, EINVAL for a bad envelope, ENOTTY for an unknown feature. Passes on the feature's own errors.
 */
export function deviceFeature(vdev: FeatureDevice, arg: UserMemory, caller: Caller): Task<number> {
  const header = arg.read(0, HEADER_BYTES);
  const view = new DataView(header.buffer, header.byteOffset, HEADER_BYTES);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  if (argsz < HEADER_BYTES) throw new Errno('EINVAL', `argsz ${argsz} is shorter than the header`);
  const both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
  if ((flags & ~(VFIO_DEVICE_FEATURE_MASK | both | VFIO_DEVICE_FEATURE_PROBE)) !== 0) {
    throw new Errno('EINVAL', `feature flags 0x${flags.toString(16)}: unknown bits`);
  }
  if ((flags & VFIO_DEVICE_FEATURE_PROBE) === 0 && (flags & both) === both) {
    throw new Errno('EINVAL', 'GET and SET go together only in a PROBE');
  }
  const number = flags & VFIO_DEVICE_FEATURE_MASK;
  const feature = FEATURES.get(number) ?? proposedFeature(vdev.profile.proposed, number);
  if (feature === null) throw new Errno('ENOTTY', `feature ${number} is unknown`);
  return feature(vdev, flags, behindHeader(arg), argsz - HEADER_BYTES, caller);
}

function proposedFeature(proposed: Proposed | null, number: number): Feature | null {
  if (number === proposed?.revoke) return featureDmaBufRevoke;
  return number === proposed?.tph ? featureDmaBufTph : null;
}

function behindHeader(arg: UserMemory): UserMemory {
  return {
    read: (offset, length) => arg.read(offset + HEADER_BYTES, length),
    write: (offset, bytes) => arg.write(offset + HEADER_BYTES, bytes),
  };
}
