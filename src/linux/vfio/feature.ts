import { Errno } from '../../abi/errno.ts';
import { O_CLOEXEC, O_RDWR } from '../../abi/fcntl.ts';
import {
  VF_TOKEN_SIZE,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
  VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
  vfio_device_feature_dma_buf,
  vfio_device_low_power_entry_with_wakeup,
  vfio_region_dma_range,
} from '../../abi/vfio-feature.ts';
import { OwnedFd } from '../fd.ts';
import { check, Pinned, sys } from '../ffi.ts';
import { UserArg } from '../user-arg.ts';
import type { VfioDevice } from './device.ts';

/** VFIO_DEVICE_FEATURE on a device: raw, and one function for each feature that Barter uses. */

/**
 * The ioctl with exactly these bytes after the header, and an argsz that counts them. A GET writes the payload back.
 * Returns the kernel's result: an fd for DMA_BUF, else 0.
 */
export function deviceFeature(device: VfioDevice, flags: number, payload: Uint8Array): number {
  const argument = new Pinned(vfio_device_feature.sizeof + payload.length);
  vfio_device_feature.write(argument.view, 0, { argsz: argument.bytes.length, flags });
  argument.bytes.set(payload, vfio_device_feature.sizeof);
  const result = device.ioctl(VFIO_DEVICE_FEATURE, argument, `VFIO_DEVICE_FEATURE(0x${flags.toString(16)})`);
  payload.set(argument.bytes.subarray(vfio_device_feature.sizeof));
  return result;
}

/**
 * The ioctl with a false header: it claims `argsz`, while memory ends right after `payload`, or inside the header when
 * `headerBytes` is below 8. The kernel's reads beyond that are EFAULT. Always uses the real kernel.
 */
export function deviceFeatureRaw(
  device: VfioDevice,
  flags: number,
  argsz: number,
  payload: Uint8Array,
  headerBytes: number = vfio_device_feature.sizeof,
): number {
  const header = vfio_device_feature.encode({ argsz, flags }).subarray(0, headerBytes);
  const argument = new UserArg(Buffer.concat([header, payload]));
  try {
    const result = check(
      sys.ioctl(device.fd.fd, VFIO_DEVICE_FEATURE, argument.address),
      () => `VFIO_DEVICE_FEATURE(flags 0x${flags.toString(16)}, argsz ${argsz}) on ${device.name}`,
    );
    payload.set(argument.read().subarray(header.length));
    return result;
  } finally {
    argument.close();
  }
}

/** Whether the device has a feature, with all the methods (GET, SET) in `methods`. */
export function hasFeature(device: VfioDevice, feature: number, methods = 0): boolean {
  try {
    deviceFeature(device, VFIO_DEVICE_FEATURE_PROBE | methods | feature, new Uint8Array(0));
    return true;
  } catch (error) {
    if (error instanceof Errno && (error.code === 'ENOTTY' || error.code === 'EINVAL')) return false;
    throw error;
  }
}

export interface DmaBufRequest {
  region: number;
  /** Slices of the region in bytes, page-aligned; the buffer is their sum, in this order. */
  ranges: readonly { offset: number | bigint; length: number | bigint }[];
  openFlags?: number;
  /** Reserved; anything but 0 is EINVAL. */
  flags?: number;
  /** The header's count, where it differs from the number of ranges. */
  nrRanges?: number;
}

/** The payload of feature 11: struct vfio_device_feature_dma_buf and its ranges. */
export function encodeDmaBufRequest(request: DmaBufRequest): Buffer {
  const { region, ranges, openFlags = O_RDWR | O_CLOEXEC, flags = 0, nrRanges = ranges.length } = request;
  const header = vfio_device_feature_dma_buf.encode({
    region_index: region,
    open_flags: openFlags,
    flags,
    nr_ranges: nrRanges,
  });
  return Buffer.concat([header, ...ranges.map((range) => vfio_region_dma_range.encode(range))]);
}

/** Exports slices of a BAR as a dma-buf (Linux 6.19 and later). Errnos: reference "DMA_BUF" in docs/differences.md. */
export function exportDmaBuf(device: VfioDevice, request: DmaBufRequest): OwnedFd {
  const payload = encodeDmaBufRequest(request);
  const fd = deviceFeature(device, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF, payload);
  return new OwnedFd(fd, `dma-buf of region ${request.region} of ${device.name}`);
}

const set = (device: VfioDevice, feature: number, payload: Uint8Array) =>
  deviceFeature(device, VFIO_DEVICE_FEATURE_SET | feature, payload);

/**
 * Lets the device sleep until any access: its BARs stop answering and its buffers are revoked. The kernel signals the
 * eventfd when the device wakes by itself. The caller keeps the descriptor.
 */
export function lowPowerEntryWithWakeup(device: VfioDevice, eventfd: number): void {
  const payload = vfio_device_low_power_entry_with_wakeup.encode({ wakeup_eventfd: eventfd });
  set(device, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, payload);
}

/**
 * Sets the secret that openers of this PF's VFs must know: 16 bytes. ENOTTY for a device other than a PF with SR-IOV.
 */
export function setVfToken(device: VfioDevice, token: Uint8Array): void {
  if (token.length !== VF_TOKEN_SIZE) throw new Errno('EINVAL', `a VF token has ${VF_TOKEN_SIZE} bytes`);
  set(device, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, token);
}
