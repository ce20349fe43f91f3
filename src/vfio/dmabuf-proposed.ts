/** The operations of a buffer with what is proposed for Linux (docs/next.md). */
import { Errno } from '../abi/errno.ts';
import type { DmaBuf, DmaBufOps, MmapArea } from '../dma-buf/dma-buf.ts';
import { type VfioPciDmaBuf, vfioPciDmaBufOps } from './dmabuf.ts';
import { mmapBuffer } from './dmabuf-mmap.ts';

export const proposedDmaBufOps: DmaBufOps = {
  ...vfioPciDmaBufOps,

  getPciTph(dmabuf: DmaBuf, isExtended: boolean) {
    const { tph } = dmabuf.priv as VfioPciDmaBuf;
    const steeringTag = (isExtended ? tph?.steeringTagExt : tph?.steeringTag) ?? null;
    if (tph === null || steeringTag === null) throw new Errno('EOPNOTSUPP', 'the buffer has no such steering tag');
    return { steeringTag, ph: tph.ph };
  },

  mmap(dmabuf: DmaBuf, area: MmapArea) {
    return mmapBuffer(dmabuf as DmaBuf<VfioPciDmaBuf>, area);
  },
};
