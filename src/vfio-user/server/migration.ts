/** MIG_DATA_READ and MIG_DATA_WRITE, and DMA logging with its ranges and bitmaps inside the messages. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_SET,
  vfio_device_feature,
  vfio_device_feature_dma_logging_range,
} from '../../abi/vfio-feature.ts';
import {
  vfio_user_device_feature_dma_logging_control,
  vfio_user_device_feature_dma_logging_report,
  vfio_user_mig_data,
} from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import { checkFeature } from '../../vfio/check-feature.ts';
import { DmaLog } from '../../vfio/dma-logging.ts';
import type { Migration } from '../../vfio/migration.ts';
import type { Frame } from '../wire/frame.ts';
import { checkDmaRange } from './dma-range.ts';
import { checkTransfer, decode, decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

const HEAD = vfio_device_feature.sizeof;

function migrationOf({ vdev }: RequestContext): Migration {
  if (vdev.migration === null) throw new Errno('ENOTTY', `${vdev.pdev.name} does not migrate`);
  return vdev.migration;
}

/** A reply with fewer bytes than requested means that the stream is at its end, or, in PRE_COPY, empty for now. */
export function* migDataRead(context: RequestContext, frame: Frame, reply: Reply): Task {
  const { argsz, size } = vfio_user_mig_data.read(decodeSized(vfio_user_mig_data, frame));
  const most = Math.min(context.capabilities.maxDataXferBytes, argsz - vfio_user_mig_data.sizeof);
  if (size > most) throw new Errno('EINVAL', `MIG_DATA_READ of ${size} bytes; ${most} is the most`);
  const bytes = yield* migrationOf(context).read(size);
  reply.append(vfio_user_mig_data.encode({ argsz: vfio_user_mig_data.sizeof + bytes.length, size: bytes.length }));
  reply.append(bytes);
}

export function* migDataWrite(context: RequestContext, frame: Frame): Task {
  const { size } = vfio_user_mig_data.read(decodeSized(vfio_user_mig_data, frame));
  checkTransfer('MIG_DATA_WRITE', size, context);
  const bytes = frame.payload.slice(vfio_user_mig_data.sizeof);
  if (bytes.length !== size) throw new Errno('EINVAL', `MIG_DATA_WRITE of ${size} bytes brings ${bytes.length}`);
  yield* migrationOf(context).write(bytes);
}

/** Serves a DEVICE_FEATURE of DMA logging; false for all others. */
export function* dmaLogging(context: RequestContext, frame: Frame, reply: Reply): Task<boolean> {
  const view = decode(vfio_device_feature, frame);
  const { argsz, flags } = vfio_device_feature.read(view);
  switch (flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
      start(context, flags, frame, reply);
      return true;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
      if (checkFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, flags, argsz - HEAD, VFIO_DEVICE_FEATURE_SET, 0)) {
        logOf(context);
        context.vdev.pdev.dmaLog = null;
      }
      reply.append(frame.payload);
      return true;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
      yield* report(context, argsz, flags, frame, reply);
      return true;
    default:
      return false;
  }
}

function logOf({ vdev }: RequestContext): DmaLog {
  const log = vdev.pdev.dmaLog;
  if (!(log instanceof DmaLog)) throw new Errno('EINVAL', `DMA of ${vdev.pdev.name} is not logged`);
  return log;
}

/** Starts the log. The reply repeats the request, with the page size that was chosen. */
function start({ vdev, capabilities }: RequestContext, flags: number, frame: Frame, reply: Reply): void {
  const { sizeof, fields } = vfio_user_device_feature_dma_logging_control;
  const feature = VFIO_DEVICE_FEATURE_DMA_LOGGING_START;
  const isWork = checkFeature(feature, flags, frame.payload.length - HEAD, VFIO_DEVICE_FEATURE_SET, sizeof);
  const bytes = Buffer.from(frame.payload);
  if (isWork) {
    if (vdev.pdev.dmaLog !== null) throw new Errno('EINVAL', `DMA of ${vdev.pdev.name} is logged already`);
    const view = viewOf(bytes);
    const count = fields.num_ranges.get(view, HEAD);
    const range = vfio_device_feature_dma_logging_range;
    if (bytes.length !== HEAD + sizeof + count * range.sizeof) {
      throw new Errno('EINVAL', `DMA_LOGGING_START: ${count} ranges in ${bytes.length} bytes`);
    }
    const ranges = Array.from({ length: count }, (_, i) => {
      const at = HEAD + sizeof + i * range.sizeof;
      return { iova: range.fields.iova.getBig(view, at), length: range.fields.length.getBig(view, at) };
    });
    const log = new DmaLog(fields.page_size.getBig(view, HEAD), ranges);
    for (const range of ranges) checkDmaRange('DMA_LOGGING_START', capabilities.pageBytes, range.iova, range.length);
    vdev.pdev.dmaLog = log;
    fields.page_size.set(view, HEAD, log.pageBytes);
  }
  reply.append(bytes);
}

/** Reports the log. Where argsz has too little room, the reply names the size it needs, and the log does not change. */
function* report(context: RequestContext, argsz: number, flags: number, frame: Frame, reply: Reply): Task {
  const { sizeof, fields } = vfio_user_device_feature_dma_logging_report;
  const feature = VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT;
  if (!checkFeature(feature, flags, frame.payload.length - HEAD, VFIO_DEVICE_FEATURE_GET, sizeof)) {
    reply.append(frame.payload);
    return;
  }
  const view = viewOf(frame.payload);
  const [iova, length, page] = [fields.iova, fields.length, fields.page_size].map((field) => field.getBig(view, HEAD));
  const log = logOf(context);
  const bitmapBytes = DmaLog.bitmapBytes(iova, length, page);
  checkDmaRange('DMA_LOGGING_REPORT', context.capabilities.pageBytes, iova, length);
  const most = context.capabilities.migration?.maxBitmapBytes ?? context.capabilities.maxDataXferBytes;
  if (bitmapBytes > most) throw new Errno('E2BIG', `a bitmap of ${bitmapBytes} bytes; ${most} is the most`);
  const head = Buffer.from(frame.payload.subarray(0, HEAD + sizeof));
  const wanted = head.length + bitmapBytes;
  vfio_device_feature.fields.argsz.set(viewOf(head), 0, wanted);
  reply.append(head);
  if (wanted <= argsz) reply.append(yield* log.report(iova, length, page));
}
