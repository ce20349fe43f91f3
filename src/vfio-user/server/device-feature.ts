/** DEVICE_FEATURE: VFIO_DEVICE_FEATURE over a connection. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
  vfio_region_dma_range,
} from '../../abi/vfio-feature.ts';
import type { Task } from '../../task/op.ts';
import type { UserMemory } from '../../vfio/user.ts';
import type { Frame } from '../wire/frame.ts';
import { callerOf } from './caller.ts';
import { dmaLogging } from './migration.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

const NR_RANGES_OFFSET = vfio_device_feature.sizeof + 12;
const RANGES_OFFSET = NR_RANGES_OFFSET + 4;

/** The argument of the ioctl: holds the client's bytes, and has room for a reply of argsz bytes. */
class FeatureArgument implements UserMemory {
  private readonly sent: Uint8Array;
  private readonly out: Uint8Array;
  /** The end of the bytes that the feature wrote; 0 where it wrote nothing. */
  end = 0;

  constructor(sent: Uint8Array, argsz: number) {
    this.sent = sent;
    this.out = new Uint8Array(argsz);
    this.out.set(sent.subarray(0, argsz));
  }

  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.sent.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + length} of an argument of ${this.sent.length}`);
    }
    return this.sent.subarray(offset, offset + length);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset + bytes.length > this.out.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + bytes.length} of a reply of ${this.out.length}`);
    }
    this.out.set(bytes, offset);
    this.end = Math.max(this.end, offset + bytes.length);
  }

  /** The payload of the reply to GET: the bytes that the feature wrote, and their length as argsz. */
  get written(): Uint8Array {
    const bytes = this.out.subarray(0, this.end);
    vfio_device_feature.fields.argsz.set(viewOf(bytes), 0, this.end);
    return bytes;
  }
}

/**
 * Returns how many ranges the message brings: at most nr_ranges of struct vfio_device_feature_dma_buf. A message that
 * claims more than it brings is the device's to refuse, with the errno that the ABI has for it.
 */
function rangesIn(sent: Uint8Array): number {
  if (sent.length < RANGES_OFFSET) return 0;
  const brought = Math.floor((sent.length - RANGES_OFFSET) / vfio_region_dma_range.sizeof);
  return Math.min(viewOf(sent).getUint32(NR_RANGES_OFFSET, true), brought);
}

/**
 * VFIO_DEVICE_FEATURE. A descriptor that the ioctl returns travels with the reply. For PROBE and SET, and for a GET
 * that writes nothing, the reply repeats the request's payload. Otherwise it has the header and the feature's bytes.
 */
export function* deviceFeature(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { vdev, files, exports } = context;
  const { argsz, flags } = vfio_device_feature.read(decodeSized(vfio_device_feature, frame));
  if (yield* dmaLogging(context, frame, reply)) return;
  // The feature may wait, and the buffer of the payload is reused meanwhile.
  const sent = frame.payload.slice();
  const argument = new FeatureArgument(sent, argsz);
  const isExport =
    (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
  if (isExport && context.capabilities.maxMsgFds === 0) {
    throw new Errno('EMSGSIZE', 'a dma-buf is a descriptor, and the client takes none');
  }
  const ranges = isExport ? rangesIn(sent) : 0;
  if (isExport) exports.checkRoom(vdev, ranges);
  const result = yield* vdev.feature(argument, callerOf(context, frame));
  const isSet = (flags & VFIO_DEVICE_FEATURE_SET) !== 0;
  reply.append(isSet || argument.end === 0 ? sent : argument.written);
  if (!isExport) return;
  try {
    reply.attach(exports.publish(files, result, vdev, ranges));
  } catch (error) {
    yield* files.close(result);
    throw error;
  }
}
