/** DMA_MAP and DMA_UNMAP: which memory of the client the device reaches. */
import { Errno } from '../../abi/errno.ts';
import { U64_MAX } from '../../abi/u64.ts';
import { vfio_user_dma_map, vfio_user_dma_unmap } from '../../abi/vfio-user.ts';
import type { Task } from '../../task/op.ts';
import type { Frame } from '../wire/frame.ts';
import { checkArgsz, decode, type Reply } from './reply.ts';
import type { RequestContext } from './request-context.ts';

export function* dmaMap(context: RequestContext, frame: Frame): Task {
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
  yield* context.regions.map(request, frame.fds.length === 0 ? null : frame.fds.shift()!);
}

export function* dmaUnmap(context: RequestContext, frame: Frame, reply: Reply): Task {
  const fields = vfio_user_dma_unmap.fields;
  const view = decode(vfio_user_dma_unmap, frame);
  checkArgsz(fields.argsz.get(view), vfio_user_dma_unmap);
  const flags = fields.flags.get(view);
  const addr = fields.addr.getBig(view);
  const end = addr + fields.size.getBig(view);
  if (end > U64_MAX + 1n) throw new Errno('EINVAL', `DMA_UNMAP past the end of 64 bits`);
  const size = yield* context.regions.unmap(flags, addr, end - addr);
  reply.append(vfio_user_dma_unmap.encode({ argsz: vfio_user_dma_unmap.sizeof, flags, addr, size }));
}
