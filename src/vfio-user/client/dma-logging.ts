/** The client's side of learning which pages a device wrote. */
import { Errno } from '../../abi/errno.ts';
import { viewOf } from '../../abi/layout.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  vfio_device_feature_dma_logging_range,
} from '../../abi/vfio-feature.ts';
import {
  vfio_user_device_feature_dma_logging_control,
  vfio_user_device_feature_dma_logging_report,
} from '../../abi/vfio-user.ts';
import { LIMITS } from '../wire/frame.ts';
import type { Iova } from './dma-maps.ts';
import type { Exchange } from './exchange.ts';
import { getFeature, setFeature } from './feature.ts';

/** As VERSION says (max_bitmap_size). */
const MAX_BITMAP_BYTES = LIMITS.maxDataXferBytes / 2;

/** Logs DMA writes to the ranges, or to all addresses without any. Returns the page size of the log in bytes. */
export function* startDmaLogging(
  pageSize: number,
  ranges: readonly { iova: Iova; length: Iova }[] = [],
): Exchange<number> {
  const { sizeof, fields } = vfio_user_device_feature_dma_logging_control;
  const data = Buffer.concat([
    vfio_user_device_feature_dma_logging_control.encode({ page_size: pageSize, num_ranges: ranges.length }),
    ...ranges.map((range) => vfio_device_feature_dma_logging_range.encode(range)),
  ]);
  const answer = yield* setFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, data);
  if (answer.length < sizeof) throw new Errno('EPROTO', `DMA_LOGGING_START answered with ${answer.length} bytes`);
  return fields.page_size.get(viewOf(answer));
}

/** Ends the log. A later report gives an error of the server. */
export function* stopDmaLogging(): Exchange<void> {
  yield* setFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, Buffer.alloc(0));
}

/** Returns the pages written since the last report, as page numbers from `iova`. EINVAL for a bitmap above 512 KiB. */
export function* dirtyPages(iova: Iova, length: number, pageSize: number): Exchange<number[]> {
  const pages = Math.ceil(length / pageSize);
  const bitmapBytes = 8 * Math.ceil(pages / 64);
  if (!(bitmapBytes <= MAX_BITMAP_BYTES)) {
    throw new Errno('EINVAL', `a report of ${pages} pages does not fit one message; ask for parts of the range`);
  }
  const report = vfio_user_device_feature_dma_logging_report.encode({ iova, length, page_size: pageSize });
  const data = yield* getFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, report, bitmapBytes);
  const bitmap = data.subarray(report.length);
  return Array.from({ length: pages }, (_, i) => i).filter((i) => (bitmap[i >> 3] & (1 << (i & 7))) !== 0);
}
