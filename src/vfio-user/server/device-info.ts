/** GET_INFO and GET_IRQ_INFO. */
import { vfio_irq_info } from '../../abi/vfio.ts';
import { vfio_user_device_info } from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import { deviceInfo } from '../../vfio/regions.ts';
import type { Frame } from '../wire/frame.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

export function* getInfo({ vdev }: RequestContext, frame: Frame, reply: Reply): Task {
  decodeSized(vfio_user_device_info, frame);
  const { flags, numRegions, numIrqs } = deviceInfo(vdev);
  const argsz = vfio_user_device_info.sizeof;
  reply.append(vfio_user_device_info.encode({ argsz, flags, num_regions: numRegions, num_irqs: numIrqs }));
}

export function* getIrqInfo({ vdev }: RequestContext, frame: Frame, reply: Reply): Task {
  const view = decodeSized(vfio_irq_info, frame);
  const index = vfio_irq_info.fields.index.get(view);
  const { flags, count } = vdev.interrupts.irqInfo(index);
  reply.append(vfio_irq_info.encode({ argsz: vfio_irq_info.sizeof, flags, index, count }));
}
