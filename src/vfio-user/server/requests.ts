/** The commands of a client and their handlers, named as in the protocol. */
import { Errno } from '../../abi/errno.ts';
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
  VFIO_USER_MIG_DATA_READ,
  VFIO_USER_MIG_DATA_WRITE,
  VFIO_USER_REGION_READ,
  VFIO_USER_REGION_WRITE,
  VFIO_USER_REGION_WRITE_MULTI,
  VFIO_USER_X_GET_PCI_HOT_RESET_INFO,
  VFIO_USER_X_PCI_HOT_RESET,
} from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import { resume } from '../../vfio/pm.ts';
import type { Frame } from '../wire/frame.ts';
import { deviceFeature } from './device-feature.ts';
import { getInfo, getIrqInfo } from './device-info.ts';
import { dmaMap, dmaUnmap } from './dma-requests.ts';
import { getHotResetInfo, pciHotReset } from './hot-reset.ts';
import { migDataRead, migDataWrite } from './migration.ts';
import { getRegionInfo } from './region-info.ts';
import { getRegionIoFds } from './region-io-fds.ts';
import { regionRead, regionWrite, regionWriteMulti } from './region-requests.ts';
import type { Reply } from './reply.ts';
import type { RequestContext, RequestHandler } from './request-context.ts';
import { setIrqs } from './set-irqs.ts';

const HANDLERS = new Map<number, RequestHandler>([
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

/** Wraps an ioctl, which wakes a sleeping device first. */
function ioctl(handler: RequestHandler): RequestHandler {
  return function* (context, frame, reply) {
    yield* resume(context.vdev);
    yield* handler(context, frame, reply);
  };
}

/** Serves a request. ENOSYS for an unknown command. */
export function serveRequest(context: RequestContext, frame: Frame, reply: Reply): Task {
  const handler = HANDLERS.get(frame.command);
  if (handler === undefined) throw new Errno('ENOSYS', `command ${frame.command}`);
  return handler(context, frame, reply);
}

function* deviceReset(context: RequestContext): Task {
  context.abortDma();
  yield* context.vdev.reset();
}
