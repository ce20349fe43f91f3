/**
 * The commands of a client, one function each, named as in the protocol. All throw the Errno that the reply carries.
 */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import { U64_MAX } from '../../abi/u64.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_TYPE_MASK, vfio_irq_info, vfio_irq_set } from '../../abi/vfio.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
} from '../../abi/vfio-feature.ts';
import {
  VFIO_USER_DEVICE_FEATURE,
  VFIO_USER_DEVICE_GET_INFO,
  VFIO_USER_DEVICE_GET_IRQ_INFO,
  VFIO_USER_DEVICE_GET_REGION_INFO,
  VFIO_USER_DEVICE_GET_REGION_IO_FDS,
  VFIO_USER_DEVICE_RESET,
  VFIO_USER_DEVICE_SET_IRQS,
  VFIO_USER_DMA_MAP,
  VFIO_USER_DMA_UNMAP,
  VFIO_USER_HEADER_SIZE,
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE,
  VFIO_USER_MULTI_DATA,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
  vfio_user_device_info,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
  vfio_user_region_access,
  vfio_user_region_write_multi,
  vfio_user_write_one,
} from '../../abi/vfio-user.ts';
import { checkedEventfd, EventfdSignal } from '../../linux/event-signal.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { Task } from '../../task/op.ts';
import { condResched, runner } from '../../task/runner.ts';
import { resume } from '../../vfio/pm.ts';
import { deviceInfo } from '../../vfio/regions.ts';
import type { Caller, UserMemory } from '../../vfio/user.ts';
import { EventWatch } from '../wire/event-watch.ts';
import { type Frame, LIMITS } from '../wire/frame.ts';
import { getHotResetInfo, pciHotReset } from './hot-reset.ts';
import { getRegionIoFds } from './io-fds.ts';
import { dmaLogging, migDataRead, migDataWrite } from './migration.ts';
import { getRegionInfo } from './region-info.ts';
import { checkArgsz, decode, type Reply } from './reply.ts';
import type { ReadySession } from './session.ts';

const WRITES_AT_ONCE = 256;

/** A command: throws the Errno that the error reply carries. */
type Handler = (session: ReadySession, frame: Frame, reply: Reply) => Task;

const HANDLERS = new Map<number, Handler>([
  [VFIO_USER_DMA_MAP, dmaMap],
  [VFIO_USER_DMA_UNMAP, dmaUnmap],
  [VFIO_USER_DEVICE_GET_INFO, ioctl(getInfo)],
  [VFIO_USER_DEVICE_GET_REGION_INFO, ioctl(getRegionInfo)],
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS, ioctl(getRegionIoFds)],
  [VFIO_USER_DEVICE_GET_IRQ_INFO, ioctl(getIrqInfo)],
  [VFIO_USER_DEVICE_SET_IRQS, ioctl(setIrqs)],
  [VFIO_USER_REGION_READ, regionRead],
  [VFIO_USER_REGION_WRITE, regionWrite],
  [VFIO_USER_REGION_WRITE_MULTI, regionWriteMulti],
  [VFIO_USER_DEVICE_RESET, ioctl(deviceReset)],
  [VFIO_USER_DEVICE_FEATURE, ioctl(deviceFeature)],
  [VFIO_USER_X_GET_PCI_HOT_RESET_INFO, ioctl(getHotResetInfo)],
  [VFIO_USER_X_PCI_HOT_RESET, ioctl(pciHotReset)],
  [VFIO_USER_MIG_DATA_READ, migDataRead],
  [VFIO_USER_MIG_DATA_WRITE, migDataWrite],
]);

/** What is an ioctl on a real device wakes a sleeping one first. */
function ioctl(handler: Handler): Handler {
  return function* (session, frame, reply) {
    yield* resume(session.vdev);
    yield* handler(session, frame, reply);
  };
}

/** ENOSYS for a command that there is not. */
export function serveRequest(session: ReadySession, frame: Frame, reply: Reply): Task {
  const handler = HANDLERS.get(frame.command);
  if (handler === undefined) throw new Errno('ENOSYS', `command ${frame.command}`);
  return handler(session, frame, reply);
}

function* dmaMap(session: ReadySession, frame: Frame): Task {
  const fields = vfio_user_dma_map.fields;
  const view = decode(vfio_user_dma_map, frame);
  checkArgsz(fields.argsz.get(view), vfio_user_dma_map);
  if (frame.fds.length > 1) throw new Errno('EINVAL', `DMA_MAP with ${frame.fds.length} descriptors`);
  const request = {
    flags: fields.flags.get(view),
    offset: fields.offset.get(view),
    iova: fields.addr.get(view),
    sizeBytes: fields.size.get(view),
  };
  yield* session.regions.map(request, frame.fds.length === 0 ? null : frame.fds.shift()!);
}

function* dmaUnmap(session: ReadySession, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_dma_unmap.fields;
  const view = decode(vfio_user_dma_unmap, frame);
  checkArgsz(fields.argsz.get(view), vfio_user_dma_unmap);
  const flags = fields.flags.get(view);
  const addr = fields.addr.getBig(view);
  const end = addr + fields.size.getBig(view);
  if (end > U64_MAX + 1n) throw new Errno('EINVAL', `DMA_UNMAP past the end of 64 bits`);
  const size = yield* session.regions.unmap(flags, addr, end - addr);
  reply.append(vfio_user_dma_unmap.encode({ argsz: vfio_user_dma_unmap.sizeof, flags, addr, size }));
}

function* deviceReset(session: ReadySession): Task {
  session.abortDma();
  yield* session.vdev.reset();
}

function* getInfo({ vdev }: ReadySession, frame: Frame, reply: Reply): Task {
  checkArgsz(vfio_user_device_info.fields.argsz.get(decode(vfio_user_device_info, frame)), vfio_user_device_info);
  const { flags, numRegions, numIrqs } = deviceInfo(vdev);
  const argsz = vfio_user_device_info.sizeof;
  reply.append(vfio_user_device_info.encode({ argsz, flags, num_regions: numRegions, num_irqs: numIrqs }));
}

function* getIrqInfo({ vdev }: ReadySession, frame: Frame, reply: Reply): Task {
  const view = decode(vfio_irq_info, frame);
  checkArgsz(vfio_irq_info.fields.argsz.get(view), vfio_irq_info);
  const index = vfio_irq_info.fields.index.get(view);
  const { flags, count } = vdev.interrupts.irqInfo(index);
  reply.append(vfio_irq_info.encode({ argsz: vfio_irq_info.sizeof, flags, index, count }));
}

/** Eventfds come as descriptors of the message: one for each interrupt, or none at all to disconnect them. */
function* setIrqs(session: ReadySession, frame: Frame): Task {
  const { vdev } = session;
  const view = decode(vfio_irq_set, frame);
  const { argsz, flags, index, start, count } = vfio_irq_set.read(view);
  checkArgsz(argsz, vfio_irq_set);
  let data = frame.payload.subarray(vfio_irq_set.sizeof);
  if ((flags & VFIO_IRQ_SET_DATA_TYPE_MASK) === VFIO_IRQ_SET_DATA_EVENTFD) {
    if (frame.fds.length !== 0 && frame.fds.length !== count) {
      throw new Errno('EINVAL', `SET_IRQS: ${frame.fds.length} descriptors for ${count} interrupts`);
    }
    if (count > vdev.interrupts.irqInfo(index).count) {
      throw new Errno('EINVAL', `SET_IRQS: ${count} interrupts at index ${index}`);
    }
    const indexes = Buffer.alloc(4 * count);
    for (let i = 0; i < count; i++) indexes.writeInt32LE(frame.fds.length === 0 ? -1 : i, 4 * i);
    data = indexes;
  }
  yield* vdev.setIrqs(flags, index, start, count, data, callerOf(session, frame));
}

function* regionRead(session: ReadySession, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_region_access.fields;
  const view = decode(vfio_user_region_access, frame);
  const count = fields.count.get(view);
  if (count > session.capabilities.maxDataXferBytes) {
    throw new Errno('EINVAL', `REGION_READ of ${count} bytes; ${session.capabilities.maxDataXferBytes} is the most`);
  }
  const region = fields.region.get(view);
  const offset = fields.offset.get(view);
  const sizeof = vfio_user_region_access.sizeof;
  const out = reply.reserve(sizeof + count);
  out.set(frame.payload.subarray(0, sizeof));
  const length = yield* session.vdev.read(region, offset, out.subarray(sizeof));
  if (length < count) {
    fields.count.set(viewOf(out), 0, length);
    reply.payloadBytes -= count - length;
  }
}

function* regionWrite({ vdev }: ReadySession, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_region_access.fields;
  const view = decode(vfio_user_region_access, frame);
  const sizeof = vfio_user_region_access.sizeof;
  const count = fields.count.get(view);
  if (frame.payload.length !== sizeof + count) {
    throw new Errno('EINVAL', `REGION_WRITE of ${count} bytes brings ${frame.payload.length - sizeof}`);
  }
  // The request is not looked at after the write: a write that waits may outlive it.
  reply.append(frame.payload.subarray(0, sizeof));
  const length = yield* vdev.write(fields.region.get(view), fields.offset.get(view), frame.payload.subarray(sizeof));
  if (length < count) fields.count.set(reply.message.view, VFIO_USER_HEADER_SIZE, length);
}

/** Writes of at most 8 bytes each, in order; the first that fails ends it, and the reply counts those before. */
function* regionWriteMulti({ vdev, capabilities }: ReadySession, frame: Frame, reply: Reply): Task {
  if (!capabilities.writeMultiple) throw new Errno('EOPNOTSUPP', 'WRITE_MULTI was not agreed on in VERSION');
  const view = decode(vfio_user_region_write_multi, frame);
  const count = vfio_user_region_write_multi.fields.wr_cnt.get(view);
  const head = vfio_user_region_write_multi.sizeof;
  if (frame.payload.length !== head + count * vfio_user_write_one.sizeof) {
    throw new Errno('EINVAL', `WRITE_MULTI of ${count} writes in ${frame.payload.length} bytes`);
  }
  const fields = vfio_user_write_one.fields;
  let written = 0;
  try {
    for (; written < count; written++) {
      const at = head + written * vfio_user_write_one.sizeof;
      const length = fields.count.get(view, at);
      if (length > VFIO_USER_MULTI_DATA) throw new Errno('EINVAL', `WRITE_MULTI: write ${written} of ${length} bytes`);
      const data = frame.payload.subarray(at + fields.data.offset, at + fields.data.offset + length);
      yield* vdev.write(fields.region.get(view, at), fields.offset.get(view, at), data);
      // A message may hold tens of thousands: others are served in between.
      if (written % WRITES_AT_ONCE === WRITES_AT_ONCE - 1) yield* condResched();
    }
  } catch (error) {
    if (written === 0 || !(error instanceof Errno)) throw error;
  }
  reply.append(vfio_user_region_write_multi.encode({ wr_cnt: written }));
}

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
function* deviceFeature(session: ReadySession, frame: Frame, reply: Reply): Task {
  const { vdev, files, exports } = session;
  if (frame.payload.length < 8) throw new Errno('EINVAL', `DEVICE_FEATURE of ${frame.payload.length} bytes`);
  const view = viewOf(frame.payload);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  if (argsz > LIMITS.maxDataXferBytes) throw new Errno('EINVAL', `DEVICE_FEATURE: argsz ${argsz} is too large`);
  if (dmaLogging(session, frame, reply)) return;
  const out = reply.reserve(Math.max(argsz, frame.payload.length));
  out.fill(0);
  out.set(frame.payload);
  const sent = frame.payload.slice();
  const isExport =
    (flags & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_DMA_BUF && (flags & VFIO_DEVICE_FEATURE_PROBE) === 0;
  if (isExport && session.capabilities.maxMsgFds === 0) {
    throw new Errno('EMSGSIZE', 'a dma-buf is a descriptor, and the client takes none');
  }
  const result = yield* vdev.feature(new FeatureArgument(sent, out), callerOf(session, frame));
  if (!isExport) return;
  try {
    reply.attach(exports.publish(files, result));
  } catch (error) {
    yield* files.close(result);
    throw error;
  }
}

/** Who made a request: descriptors in its argument are numbers of those that came with the message. */
function callerOf({ files, host }: ReadySession, frame: Frame): Caller {
  const descriptor = (i: number): OwnedFd => {
    const fd = frame.fds[i];
    if (fd === undefined) throw new Errno('EBADF', `descriptor ${i} did not come with the message`);
    return fd.duplicate();
  };
  return {
    files,
    eventSignal: (i) => new EventfdSignal(descriptor(i)),
    eventSource: (i, onSignal) => {
      const fd = checkedEventfd(descriptor(i));
      return new EventWatch(host.loop, fd, () => runner.start('eventfd of a client', onSignal()));
    },
  };
}
