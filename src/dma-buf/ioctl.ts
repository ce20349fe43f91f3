/** System calls on the file of a dma-buf (linux/dma-buf.h; dma_buf_fops). */
import { Errno } from '../abi/errno.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import type { Task } from '../task/op.ts';
import type { DmaBuf, MmapArea, UserMapping } from './dma-buf.ts';
import { DmaFence } from './fence.ts';
import { DMA_RESV_USAGE_READ, DMA_RESV_USAGE_WRITE, resvUsageRw } from './resv.ts';
import { SyncFile } from './sync-file.ts';

const DMA_BUF_SYNC_READ = 1 << 0;
const DMA_BUF_SYNC_WRITE = 1 << 1;
const DMA_BUF_SYNC_RW = DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE;
const DMA_BUF_SYNC_END = 1 << 2;
/** Bytes with the terminating NUL. */
const DMA_BUF_NAME_LEN = 32;

const SEEK_SET = 0;
const SEEK_END = 2;

/** lseek(2): accepts only the two calls that ask for the size and go back to 0. Everything else is EINVAL. */
export function dmaBufLseek(dmabuf: { readonly sizeBytes: number }, offset: number, whence: number): number {
  const base = whence === SEEK_END ? dmabuf.sizeBytes : whence === SEEK_SET ? 0 : null;
  if (base === null || offset !== 0) {
    throw new Errno('EINVAL', `lseek(${offset}, ${whence}): a dma-buf knows SEEK_SET 0 and SEEK_END 0 only`);
  }
  return base;
}

/**
 * mmap(2): EINVAL for bytes that the buffer does not have, and unless the exporter can take mappings away. Otherwise
 * revocable memory is mapped only through the vfio device. Passes on errors of the exporter's mmap op.
 */
export function dmaBufMmap(dmabuf: DmaBuf, area: MmapArea): Task<UserMapping> {
  if (dmabuf.ops.mmap === undefined) {
    throw new Errno('EINVAL', 'a dma-buf of a vfio device cannot be mapped; map the region of the device');
  }
  const { offset, sizeBytes } = area;
  if (sizeBytes <= 0 || offset < 0 || offset % PAGE_SIZE !== 0 || offset + sizeBytes > dmabuf.sizeBytes) {
    throw new Errno('EINVAL', `bytes ${offset} to ${offset + sizeBytes} of a dma-buf of ${dmabuf.sizeBytes}`);
  }
  return dmabuf.ops.mmap(dmabuf, area);
}

/** System calls that a dma-buf's file answers without its exporter (dma_buf_fops, and a file without a file system). */
export function dmaBufFileCall(
  dmabuf: DmaBuf,
  call: 'read' | 'write' | 'ftruncate' | 'reopen' | 'ioctl' | 'stat' | 'link',
): unknown {
  switch (call) {
    case 'stat':
      return { size: dmabuf.sizeBytes, mode: 0o600 };
    case 'link':
      return `/dmabuf:${dmabuf.name ?? ''}`;
    case 'reopen':
      throw new Errno('ENXIO', 'a dma-buf cannot be opened by a path');
    case 'ioctl':
      throw new Errno('ENOTTY', 'a dma-buf does not know this ioctl');
    default:
      throw new Errno('EINVAL', `a dma-buf has no ${call}`);
  }
}

/** DMA_BUF_IOCTL_SYNC: START waits for writers (to read) or for all users (to write); END changes nothing. */
export function* dmaBufSync(dmabuf: DmaBuf, flags: number): Task {
  if ((flags & ~(DMA_BUF_SYNC_RW | DMA_BUF_SYNC_END)) !== 0 || (flags & DMA_BUF_SYNC_RW) === 0) {
    throw new Errno('EINVAL', `DMA_BUF_IOCTL_SYNC flags 0x${(flags >>> 0).toString(16)}`);
  }
  if ((flags & DMA_BUF_SYNC_END) !== 0) return;
  yield* dmabuf.resv.wait(resvUsageRw((flags & DMA_BUF_SYNC_WRITE) !== 0));
}

/** DMA_BUF_SET_NAME: at most 31 bytes of UTF-8. */
export function dmaBufSetName(dmabuf: DmaBuf, name: string): void {
  const length = Buffer.byteLength(name);
  if (length >= DMA_BUF_NAME_LEN) {
    throw new Errno('EINVAL', `a dma-buf's name has at most ${DMA_BUF_NAME_LEN - 1} bytes, this one has ${length}`);
  }
  dmabuf.name = name;
}

function checkSyncFileFlags(ioctl: string, flags: number): void {
  if ((flags & ~DMA_BUF_SYNC_RW) !== 0 || flags === 0) {
    throw new Errno('EINVAL', `${ioctl} flags 0x${(flags >>> 0).toString(16)}`);
  }
}

/** DMA_BUF_IOCTL_EXPORT_SYNC_FILE: the fences that a reader (or writer) must wait for, or a signalled one. */
export function* dmaBufExportSyncFile(dmabuf: DmaBuf, flags: number): Task<SyncFile> {
  checkSyncFileFlags('DMA_BUF_IOCTL_EXPORT_SYNC_FILE', flags);
  const lock = dmabuf.resv.lock;
  yield* lock.lock();
  const fences = dmabuf.resv.fences(resvUsageRw((flags & DMA_BUF_SYNC_WRITE) !== 0));
  yield* lock.unlock();
  const pending: DmaFence[] = [];
  for (const fence of fences) if (!(yield* fence.testSignaled())) pending.push(fence);
  return new SyncFile(pending.length > 0 ? pending : [DmaFence.stub()]);
}

/** DMA_BUF_IOCTL_IMPORT_SYNC_FILE: later users of the buffer wait for these fences too. */
export function* dmaBufImportSyncFile(dmabuf: DmaBuf, flags: number, syncFile: unknown): Task {
  checkSyncFileFlags('DMA_BUF_IOCTL_IMPORT_SYNC_FILE', flags);
  if (!(syncFile instanceof SyncFile)) throw new Errno('EINVAL', 'the descriptor is not that of a sync file');
  const usage = (flags & DMA_BUF_SYNC_WRITE) !== 0 ? DMA_RESV_USAGE_WRITE : DMA_RESV_USAGE_READ;
  const lock = dmabuf.resv.lock;
  yield* lock.lock();
  for (const fence of syncFile.fences) yield* dmabuf.resv.addFence(fence, usage);
  yield* lock.unlock();
}

/** poll(2): readable when no writer is left, writable when no user is left. */
export function dmaBufPoll(dmabuf: DmaBuf): { readable: boolean; writable: boolean } {
  return {
    readable: dmabuf.resv.testSignaled(DMA_RESV_USAGE_WRITE),
    writable: dmabuf.resv.testSignaled(DMA_RESV_USAGE_READ),
  };
}

/** The buffer's own lines of /proc/self/fdinfo. `count` is the number of references without the caller's. */
export function dmaBufFdinfo(dmabuf: DmaBuf): Record<string, string> {
  const info: Record<string, string> = {
    size: String(dmabuf.sizeBytes),
    count: String(dmabuf.count.value),
    exp_name: dmabuf.expName,
  };
  if (dmabuf.name !== null) info.name = dmabuf.name;
  return info;
}
