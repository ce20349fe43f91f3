/** SET_IRQS: interrupts by eventfds of the client. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_TYPE_MASK, vfio_irq_set } from '../../abi/vfio.ts';
import type { Task } from '../../task/op.ts';
import type { Frame } from '../wire/frame.ts';
import { callerOf } from './caller.ts';
import { decodeSized } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/** The message carries one eventfd for each interrupt, or none at all to disconnect them. */
export function* setIrqs(context: RequestContext, frame: Frame): Task {
  const { vdev } = context;
  const view = decodeSized(vfio_irq_set, frame);
  const { argsz, flags, index, start, count } = vfio_irq_set.read(view);
  let data = frame.payload.subarray(vfio_irq_set.sizeof, argsz);
  const isEventfd = (flags & VFIO_IRQ_SET_DATA_TYPE_MASK) === VFIO_IRQ_SET_DATA_EVENTFD;
  if (!isEventfd && frame.fds.length > 0) {
    throw new Errno('EINVAL', `SET_IRQS: ${frame.fds.length} descriptors, and flags ${flags} want none`);
  }
  if (isEventfd) {
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
  yield* vdev.setIrqs(flags, index, start, count, data, callerOf(context, frame));
}
