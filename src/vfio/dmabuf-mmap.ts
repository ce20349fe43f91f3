/** A process's mapping of a dma-buf, as proposed (docs/next.md): accesses fault while the buffer is revoked. */
import { Errno } from '../abi/errno.ts';
import type { DmaBuf, MmapArea, UserMapping } from '../dma-buf/dma-buf.ts';
import { type PhysVec, slicePhysVec } from '../dma-buf/scatterlist.ts';
import type { Task } from '../task/op.ts';
import type { RegisteredDevice, VfioPciDmaBuf } from './dmabuf.ts';
import { BusError, MappedPages } from './mmap.ts';

/**
 * vfio_pci_dma_buf_mmap: ENODEV for a buffer that is revoked now. The mapping holds a reference to the buffer until its
 * munmap.
 */
export function* mmapBuffer(dmabuf: DmaBuf<VfioPciDmaBuf>, area: MmapArea): Task<UserMapping> {
  if (yield* dmabuf.priv.revoked.load()) {
    throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
  }
  if (area.isPrivate) throw new Errno('EINVAL', 'a dma-buf is mapped shared');
  yield* dmabuf.get();
  return new BufferMapping(dmabuf, area);
}

/** The pages are there while the buffer is lent. */
export class BufferMapping extends MappedPages implements UserMapping {
  private readonly dmabuf: DmaBuf<VfioPciDmaBuf>;
  private readonly offset: number;
  private readonly sizeBytes: number;
  /** The device that zaps this mapping; null before the first fault. */
  private vdev: RegisteredDevice | null = null;
  private unmapped = false;

  constructor(dmabuf: DmaBuf<VfioPciDmaBuf>, { offset, sizeBytes }: MmapArea) {
    super();
    this.dmabuf = dmabuf;
    this.offset = offset;
    this.sizeBytes = sizeBytes;
  }

  read(offset: number, into: Uint8Array): Task {
    return this.access(offset, into, false);
  }

  write(offset: number, from: Uint8Array): Task {
    return this.access(offset, from, true);
  }

  *unmap(): Task {
    this.unmapped = true;
    this.vdev?.mappings.delete(this);
    yield* this.dmabuf.put();
  }

  private access(offset: number, bytes: Uint8Array, isWrite: boolean): Task {
    if (this.unmapped || offset < 0 || offset + bytes.length > this.sizeBytes) {
      throw new BusError(`bytes ${offset} to ${offset + bytes.length} are not mapped`);
    }
    const parts = slicePhysVec(this.dmabuf.priv.physVec, this.offset + offset, bytes.length);
    return this.touch(() => this.mmio(parts, bytes, isWrite));
  }

  /**
   * Maps the pages if the buffer is not revoked. The reservation keeps the device alive until its registration is
   * taken, and memory_lock, which comes first, is taken after it is dropped. So `revoked` is read again.
   */
  protected *fault(): Task {
    const { resv, priv } = this.dmabuf;
    yield* resv.lock.lock();
    // A cleanup revokes under the reservation before it clears `vdev`.
    const vdev = (yield* priv.revoked.load()) ? null : priv.vdev.get();
    const isRegistered = vdev !== null && (yield* vdev.registration.tryGet());
    yield* resv.lock.unlock();
    if (vdev === null || !isRegistered) throw new BusError('the buffer is revoked');
    yield* vdev.memoryLock.read();
    const isLent = !(yield* priv.revoked.load());
    if (isLent) {
      this.vdev = vdev;
      vdev.mappings.add(this);
      yield* this.present.store(true);
    }
    yield* vdev.memoryLock.releaseRead();
    yield* vdev.registration.put();
    if (!isLent) throw new BusError('the buffer is revoked');
  }

  private mmio(parts: readonly PhysVec[], bytes: Uint8Array, isWrite: boolean): void {
    const { pdev } = this.vdev!;
    let done = 0;
    for (const { address, sizeBytes } of parts) {
      const bar = pdev.bars.find(
        (each) => each !== null && address - each.address < each.sizeBytes && address >= each.address,
      )!;
      pdev.mmio(bar, address - bar.address, bytes.subarray(done, done + sizeBytes), isWrite);
      done += sizeBytes;
    }
  }
}
