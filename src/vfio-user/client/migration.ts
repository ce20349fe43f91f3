/** The client's side of moving a device, and of learning which pages it wrote. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
  vfio_device_feature_dma_logging_range,
  vfio_device_feature_mig_data_size,
  vfio_device_feature_mig_state,
  vfio_device_feature_migration,
} from '../../abi/vfio-feature.ts';
import {
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE,
  vfio_user_device_feature_dma_logging_control,
  vfio_user_device_feature_dma_logging_report,
  vfio_user_mig_data,
} from '../../abi/vfio-user.ts';
import type { VfioUserClient } from './client.ts';

const HEAD = vfio_device_feature.sizeof;

/** Flags of VFIO_DEVICE_FEATURE_MIGRATION. ENOTTY where the device does not migrate. */
export function migrationFlags(client: VfioUserClient): number {
  const data = get(client, VFIO_DEVICE_FEATURE_MIGRATION, Buffer.alloc(vfio_device_feature_migration.sizeof));
  return vfio_device_feature_migration.fields.flags.get(viewOf(data));
}

/** VFIO_DEVICE_STATE_... */
export function migrationState(client: VfioUserClient): number {
  const data = get(client, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, Buffer.alloc(vfio_device_feature_mig_state.sizeof));
  return vfio_device_feature_mig_state.fields.device_state.get(viewOf(data));
}

/** Sets the state; returns when the device is in it. Errors as Migration.setState (vfio/migration.ts). */
export function setMigrationState(client: VfioUserClient, state: number): void {
  set(client, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, vfio_device_feature_mig_state.encode({ device_state: state }));
}

/** Returns the most bytes of the device's stream in STOP_COPY. */
export function migrationBytes(client: VfioUserClient): number {
  const data = get(client, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, Buffer.alloc(vfio_device_feature_mig_data_size.sizeof));
  return vfio_device_feature_mig_data_size.fields.stop_copy_length.get(viewOf(data));
}

/** Reads all that the stream has now, in pieces of one message each. */
export function* readMigrationData(client: VfioUserClient): Generator<Buffer> {
  const size = client.capabilities.maxDataXferBytes - vfio_user_mig_data.sizeof;
  for (let length = size; length === size; ) {
    const request = vfio_user_mig_data.encode({ argsz: vfio_user_mig_data.sizeof + size, size });
    const { payload } = client.call(VFIO_USER_MIG_DATA_READ, request);
    length = payload.length < vfio_user_mig_data.sizeof ? -1 : vfio_user_mig_data.fields.size.get(viewOf(payload));
    if (length !== payload.length - vfio_user_mig_data.sizeof || length > size) {
      throw new Errno('EPROTO', `MIG_DATA_READ of ${size} bytes answered with ${length}`);
    }
    if (length > 0) yield payload.subarray(vfio_user_mig_data.sizeof);
  }
}

/** Writes to the stream. EINVAL unless the device is RESUMING, and for bytes of another kind of device. */
export function writeMigrationData(client: VfioUserClient, bytes: Uint8Array): void {
  const most = client.capabilities.maxDataXferBytes - vfio_user_mig_data.sizeof;
  for (let at = 0; at < bytes.length; at += most) {
    const part = bytes.subarray(at, at + most);
    const payload = vfio_user_mig_data.encode(
      { argsz: vfio_user_mig_data.sizeof + part.length, size: part.length },
      part.length,
    );
    payload.set(part, vfio_user_mig_data.sizeof);
    client.call(VFIO_USER_MIG_DATA_WRITE, payload);
  }
}

/** Logs DMA writes to the ranges, or to all addresses without any. Returns the page size of the log in bytes. */
export function startDmaLogging(
  client: VfioUserClient,
  pageSize: number,
  ranges: readonly { iova: number; length: number }[] = [],
): number {
  const { sizeof, fields } = vfio_user_device_feature_dma_logging_control;
  const data = Buffer.concat([
    vfio_user_device_feature_dma_logging_control.encode({ page_size: pageSize, num_ranges: ranges.length }),
    ...ranges.map((range) => vfio_device_feature_dma_logging_range.encode(range)),
  ]);
  const answer = set(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, data);
  if (answer.length < sizeof) throw new Errno('EPROTO', `DMA_LOGGING_START answered with ${answer.length} bytes`);
  return fields.page_size.get(viewOf(answer));
}

export function stopDmaLogging(client: VfioUserClient): void {
  set(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, Buffer.alloc(0));
}

/** Returns the pages written since the last report, as page numbers from `iova`. */
export function dirtyPages(client: VfioUserClient, iova: number, length: number, pageSize: number): number[] {
  const pages = Math.ceil(length / pageSize);
  const report = vfio_user_device_feature_dma_logging_report.encode({ iova, length, page_size: pageSize });
  const data = get(client, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, report, 8 * Math.ceil(pages / 64));
  const bitmap = data.subarray(report.length);
  return Array.from({ length: pages }, (_, i) => i).filter((i) => (bitmap[i >> 3] & (1 << (i & 7))) !== 0);
}

function get(client: VfioUserClient, feature: number, data: Buffer, moreBytes = 0): Buffer {
  const wanted = HEAD + data.length + moreBytes;
  const head = vfio_device_feature.encode({ argsz: wanted, flags: feature | VFIO_DEVICE_FEATURE_GET });
  const { payload } = client.feature(Buffer.concat([head, data]));
  if (payload.length !== wanted) throw new Errno('EPROTO', `feature ${feature}: ${payload.length} bytes for ${wanted}`);
  return payload.subarray(HEAD);
}

function set(client: VfioUserClient, feature: number, data: Buffer): Buffer {
  const head = vfio_device_feature.encode({ argsz: HEAD + data.length, flags: feature | VFIO_DEVICE_FEATURE_SET });
  return client.feature(Buffer.concat([head, data])).payload.subarray(HEAD);
}
