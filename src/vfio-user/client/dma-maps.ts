/** DMA_MAP and DMA_UNMAP on the client's side. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../abi/vfio-type1.ts';
import { VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP, vfio_user_dma_map, vfio_user_dma_unmap } from '../../abi/vfio-user.ts';
import { ask, type Exchange, type Peer, replyOf } from './exchange.ts';

/** An address of the device. Beyond 2^53 it must be a bigint. */
export type Iova = number | bigint;

/** struct vfio_user_dma_map, with its descriptor. */
export interface DmaMap {
  iova: Iova;
  sizeBytes: Iova;
  /** VFIO_USER_F_DMA_REGION_READ, _WRITE. */
  flags: number;
  /** The file of the memory, which stays the caller's; null where the device sends DMA_READ and DMA_WRITE. */
  fd: number | null;
  /** The memory's offset in the file. */
  offset: Iova;
}

/** The memory that is mapped for a device, so that the server's limits hold before anything leaves. */
export class DmaMaps {
  /** Sizes by address. */
  private readonly maps = new Map<bigint, bigint>();

  /** ENOSPC beyond the server's limit, EINVAL for a range that is not in pages that both sides map. */
  *map(peer: Peer, { iova, sizeBytes, flags, fd, offset }: DmaMap): Exchange<void> {
    const { path, capabilities } = peer;
    const { maxDmaMaps } = capabilities;
    if (this.maps.size >= maxDmaMaps) throw new Errno('ENOSPC', `${path} takes ${maxDmaMaps} DMA_MAPs`);
    const page = BigInt(capabilities.pageBytes);
    const [addr, size] = [BigInt(iova), BigInt(sizeBytes)];
    if (addr % page !== 0n || size % page !== 0n) {
      throw new Errno('EINVAL', `DMA_MAP of ${size} bytes at ${addr}: ${path} maps pages of ${page}`);
    }
    const argsz = vfio_user_dma_map.sizeof;
    const payload = vfio_user_dma_map.encode({ argsz, flags, offset, addr, size });
    yield { command: VFIO_USER_DMA_MAP, payload, fds: fd === null ? [] : [fd] };
    this.maps.set(addr, size);
  }

  /** Returns the bytes that were unmapped. */
  *unmap(iova: Iova, sizeBytes: Iova, flags: number): Exchange<number> {
    const [addr, size] = [BigInt(iova), BigInt(sizeBytes)];
    const argsz = vfio_user_dma_unmap.sizeof;
    const payload = yield* ask(VFIO_USER_DMA_UNMAP, vfio_user_dma_unmap.encode({ argsz, flags, addr, size }));
    const isAll = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    if (this.maps.get(addr) === size) this.maps.delete(addr);
    else for (const at of this.maps.keys()) if (isAll || (at >= addr && at < addr + size)) this.maps.delete(at);
    return vfio_user_dma_unmap.fields.size.get(replyOf(payload, vfio_user_dma_unmap));
  }
}
