/** DEVICE_FEATURE: VFIO_DEVICE_FEATURE over a connection. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../abi/vfio-feature.ts';
import type { Task } from '../../task/op.ts';
import type { UserMemory } from '../../vfio/user.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';
import { callerOf } from './caller.ts';
import { dmaLogging } from './migration.ts';
import type { Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/** The argument of the ioctl: what the client sent can be read, and the reply has room for argsz bytes. */
class FeatureArgument implements UserMemory {
  private readonly sent: Uint8Array;
  private readonly reply: Uint8Array;

  constructor(sent: Uint8Array, reply: Uint8Array) {
    this.sent = sent;
    this.reply = reply;
  }

  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.sent.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + length} of an argument of ${this.sent.length}`);
    }
    return this.sent.subarray(offset, offset + length);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (offset + bytes.length > this.reply.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + bytes.length} of a reply of ${this.reply.length}`);
    }
    this.reply.set(bytes, offset);
  }
}

/** VFIO_DEVICE_FEATURE; what the ioctl returns as a descriptor travels with the reply. */
export function* deviceFeature(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { vdev, files, exports } = context;
  if (frame.payload.length < 8) throw new Errno('EINVAL', `DEVICE_FEATURE of ${frame.payload.length} bytes`);
  const view = viewOf(frame.payload);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  if (argsz > LIMITS.maxDataXferBytes) throw new Errno('EINVAL', `DEVICE_FEATURE: argsz ${argsz} is too large`);
  if (dmaLogging(context, frame, reply)) return;
  const out = reply.reserve(Math.max(argsz, frame.payload.length));
  out.fill(0);
  out.set(frame.payload);
  const sent = frame.payload.slice();
  const isExport =
    (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
  if (isExport && context.capabilities.maxMsgFds === 0) {
    throw new Errno('EMSGSIZE', 'a dma-buf is a descriptor, and the client takes none');
  }
  const result = yield* vdev.feature(new FeatureArgument(sent, out), callerOf(context, frame));
  if (!isExport) return;
  try {
    reply.attach(exports.publish(files, result));
  } catch (error) {
    yield* files.close(result);
    throw error;
  }
}
