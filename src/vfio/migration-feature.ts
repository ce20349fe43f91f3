/** Features 1, 2 and 9 of VFIO_DEVICE_FEATURE: the support for migration, its states, and the size of its data. */
import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
  vfio_device_feature_mig_data_size,
  vfio_device_feature_mig_state,
  vfio_device_feature_migration,
} from '../abi/vfio-feature.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import type { Migration } from './migration.ts';
import type { UserMemory } from './user.ts';

/** A device that may have a migration. */
export interface MigratableDevice {
  readonly pdev: PciFunction;
  /** Null where the device does not migrate. */
  readonly migration: Migration | null;
}

function migrationOf(vdev: MigratableDevice): Migration {
  if (vdev.migration === null) throw new Errno('ENOTTY', `${vdev.pdev.name} does not migrate`);
  return vdev.migration;
}

/** GET: {u64 flags}. */
export function* featureMigration(
  vdev: MigratableDevice,
  flags: number,
  payload: UserMemory,
  argsz: number,
): Task<number> {
  migrationOf(vdev);
  const { sizeof } = vfio_device_feature_migration;
  if (!checkFeature(VFIO_DEVICE_FEATURE_MIGRATION, flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof)) return 0;
  const all = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
  payload.write(0, vfio_device_feature_migration.encode({ flags: all }));
  return 0;
}

/**
 * GET and SET: {u32 device_state, s32 data_fd}. data_fd is always -1: users read and write the stream by separate calls
 * (`Migration.read`, MIG_DATA_READ of vfio-user).
 */
export function* featureMigState(
  vdev: MigratableDevice,
  flags: number,
  payload: UserMemory,
  argsz: number,
): Task<number> {
  const migration = migrationOf(vdev);
  const { sizeof, fields } = vfio_device_feature_mig_state;
  const both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
  if (!checkFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, flags, argsz, both, sizeof)) return 0;
  if ((flags & VFIO_DEVICE_FEATURE_SET) !== 0) {
    yield* migration.setState(fields.device_state.get(viewOf(payload.read(0, sizeof))));
  }
  const device_state = yield* migration.state();
  payload.write(0, vfio_device_feature_mig_state.encode({ device_state, data_fd: -1 }));
  return 0;
}

/** GET: {u64 stop_copy_length}. */
export function* featureMigDataSize(
  vdev: MigratableDevice,
  flags: number,
  payload: UserMemory,
  argsz: number,
): Task<number> {
  const migration = migrationOf(vdev);
  const { sizeof } = vfio_device_feature_mig_data_size;
  if (!checkFeature(VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof)) return 0;
  payload.write(0, vfio_device_feature_mig_data_size.encode({ stop_copy_length: migration.dataBytes() }));
  return 0;
}
