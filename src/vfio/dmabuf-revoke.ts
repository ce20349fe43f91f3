/** VFIO_DEVICE_FEATURE_DMA_BUF_REVOKE, as proposed: takes one buffer back for good (docs/next.md). */
import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import { VFIO_DEVICE_FEATURE_SET } from '../abi/vfio-feature.ts';
import { vfio_device_feature_dma_buf_revoke } from '../abi/vfio-proposed.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import { type RegisteredDevice, VfioPciDmaBuf } from './dmabuf.ts';
import { bufferOf, type Caller, type UserMemory } from './user.ts';

/**
 * Returns when no importer and no process reaches the buffer any more, by a mapping or anew. EBADF or EINVAL for a
 * descriptor that is not a dma-buf, ENODEV for one of another device, EBADFD for a buffer that is revoked for good.
 */
export function* featureDmaBufRevoke(
  vdev: RegisteredDevice,
  flags: number,
  arg: UserMemory,
  argsz: number,
  caller: Caller,
): Task<number> {
  const { sizeof } = vfio_device_feature_dma_buf_revoke;
  const { revoke } = vdev.profile.proposed!;
  if (!checkFeature(revoke, flags, argsz, VFIO_DEVICE_FEATURE_SET, sizeof)) return 0;
  const { dmabuf_fd } = vfio_device_feature_dma_buf_revoke.read(viewOf(arg.read(0, sizeof)));
  const dmabuf = yield* bufferOf(caller, dmabuf_fd);
  try {
    yield* vdev.memoryLock.write();
    try {
      // Under the lock, since the cleanup of the device changes `vdev`.
      const { priv } = dmabuf;
      if (!(priv instanceof VfioPciDmaBuf) || priv.vdev.get() !== vdev) {
        throw new Errno('ENODEV', `descriptor ${dmabuf_fd} is not a dma-buf of ${vdev.pdev.name}`);
      }
      yield* priv.revokeForGood(vdev.profile);
      yield* vdev.zapMappings();
    } finally {
      yield* vdev.memoryLock.releaseWrite();
    }
  } finally {
    // The release takes memory_lock, which is free here.
    yield* dmabuf.put();
  }
  return 0;
}
