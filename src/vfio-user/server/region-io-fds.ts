/** GET_REGION_IO_FDS: the eventfds of a region's doorbells. */
import { Errno } from '../../abi/errno.ts';
import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  VFIO_USER_IO_FD_TYPE_IOEVENTFD,
  vfio_user_region_io_fds,
  vfio_user_sub_region_ioeventfd,
} from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import { regionInfo } from '../../vfio/regions.ts';
import type { Frame } from '../wire/frame.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/**
 * Returns as many doorbells as the client takes descriptors in one message. Without doorbells the region has no
 * entries.
 */
export function* getRegionIoFds(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { vdev, ioFds, capabilities } = context;
  const {
    argsz: room,
    flags,
    index,
    count,
  } = vfio_user_region_io_fds.read(decodeSized(vfio_user_region_io_fds, frame));
  if (flags !== 0 || count !== 0) throw new Errno('EINVAL', `GET_REGION_IO_FDS: flags ${flags}, count ${count}`);
  if (regionInfo(vdev, index).sizeBytes === 0) throw new Errno('EINVAL', `${vdev.pdev.name} has no region ${index}`);
  const doorbells = (vdev.pdev.bars[index]?.target.doorbells ?? []).slice(0, capabilities.maxMsgFds);
  const argsz = vfio_user_region_io_fds.sizeof + doorbells.length * vfio_user_sub_region_ioeventfd.sizeof;
  reply.append(vfio_user_region_io_fds.encode({ argsz, index, count: doorbells.length }));
  if (argsz > room) return;
  for (const [fdIndex, doorbell] of doorbells.entries()) {
    const { offset, sizeBytes: size, datamatch } = doorbell;
    const kind = { type: VFIO_USER_IO_FD_TYPE_IOEVENTFD, flags: KVM_IOEVENTFD_FLAG_DATAMATCH };
    reply.append(vfio_user_sub_region_ioeventfd.encode({ offset, size, fd_index: fdIndex, ...kind, datamatch }));
    reply.fds.push(ioFds.eventfd(doorbell));
  }
}
