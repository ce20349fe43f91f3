/** DMA_MAP and DMA_UNMAP: the memory of the client that the device reaches. */
import { Errno } from '../../abi/errno.ts';
import { PAGE_SIZE } from '../../abi/mman.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../abi/vfio-type1.ts';
import {
  VFIO_USER_F_DMA_REGION_FILE_IO,
  VFIO_USER_F_DMA_REGION_MMAP,
  vfio_user_dma_map,
  vfio_user_dma_unmap,
} from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import type { Frame } from '../wire/frame.ts';
import { checkDmaRange, checkReachable } from './dma-range.ts';
import { decodeSized, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

/** The calls that the descriptor allows. The server does not rely on them: it finds out safely which calls work. */
const FILE_ACCESS = VFIO_USER_F_DMA_REGION_MMAP | VFIO_USER_F_DMA_REGION_FILE_IO;

export function* dmaMap({ regions, capabilities }: RequestContext, frame: Frame): Task {
  const fields = vfio_user_dma_map.fields;
  const view = decodeSized(vfio_user_dma_map, frame);
  const flags = fields.flags.get(view);
  const [iova, size, offset] = [fields.addr, fields.size, fields.offset].map((field) => field.getBig(view));
  if (frame.fds.length > 1) throw new Errno('EINVAL', `DMA_MAP with ${frame.fds.length} descriptors`);
  if ((flags & FILE_ACCESS) !== 0 && frame.fds.length === 0) {
    throw new Errno('EINVAL', `DMA_MAP: flags ${flags} are about a descriptor, and none came`);
  }
  checkDmaRange('DMA_MAP', capabilities.pageBytes, iova, size);
  checkDmaRange('DMA_MAP: the file', PAGE_SIZE, offset, size);
  checkReachable('DMA_MAP', iova + size);
  checkReachable('DMA_MAP: the file', offset + size);
  const request = {
    flags: flags & ~FILE_ACCESS,
    offset: Number(offset),
    iova: Number(iova),
    sizeBytes: Number(size),
  };
  yield* regions.map(request, frame.fds.length === 0 ? null : frame.fds.shift()!);
}

/**
 * Unmaps one region or several whole ones; a virtual IOMMU unmaps whole address spaces at once. ENOENT where nothing is
 * mapped, or where the range does not end with a region.
 */
export function* dmaUnmap({ regions, capabilities }: RequestContext, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_dma_unmap.fields;
  const view = decodeSized(vfio_user_dma_unmap, frame);
  const flags = fields.flags.get(view);
  const [iova, size] = [fields.addr.getBig(view), fields.size.getBig(view)];
  const isAll = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  if (!isAll) checkDmaRange('DMA_UNMAP', capabilities.pageBytes, iova, size);
  const unmapped = yield* regions.unmap(flags, iova, size);
  if (unmapped === 0 && !isAll) throw new Errno('ENOENT', `DMA_UNMAP: nothing is mapped at 0x${iova.toString(16)}`);
  const { sizeof } = vfio_user_dma_unmap;
  reply.append(vfio_user_dma_unmap.encode({ argsz: sizeof, flags, addr: iova, size: unmapped }));
}
