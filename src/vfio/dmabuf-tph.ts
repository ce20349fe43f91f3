/** VFIO_DEVICE_FEATURE_DMA_BUF_TPH, as proposed: hints that importers put into their writes (docs/next.md). */
import { Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import {
  PCI_CAP_ID_EXP,
  PCI_EXP_DEVCAP2,
  PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH,
  PCI_EXP_DEVCAP2_TPH_COMP_MASK,
  PCI_EXP_DEVCAP2_TPH_COMP_NONE,
} from '../abi/pci_regs.ts';
import { VFIO_DEVICE_FEATURE_SET } from '../abi/vfio-feature.ts';
import { VFIO_DMA_BUF_TPH_ST, VFIO_DMA_BUF_TPH_ST_EXT, vfio_device_feature_dma_buf_tph } from '../abi/vfio-proposed.ts';
import type { DmaBuf } from '../dma-buf/dma-buf.ts';
import type { PciFunction } from '../pci/function.ts';
import type { Task } from '../task/op.ts';
import { checkFeature } from './check-feature.ts';
import { type RegisteredDevice, VfioPciDmaBuf } from './dmabuf.ts';
import { bufferOf, type Caller, type UserMemory } from './user.ts';

/** A processing hint has two bits. */
const MAX_PH = 3;

/**
 * Sets the hints of a buffer; each call replaces all of them. EOPNOTSUPP where the device does not complete requests
 * with hints, or not with extended tags; a PROBE has the same error. EINVAL for unknown flags, a hint above 3, and a
 * buffer that is not of this device.
 */
export function* featureDmaBufTph(
  vdev: RegisteredDevice,
  flags: number,
  arg: UserMemory,
  argsz: number,
  caller: Caller,
): Task<number> {
  const completer = tphCompleter(vdev.pdev);
  if (completer === PCI_EXP_DEVCAP2_TPH_COMP_NONE) throw new Errno('EOPNOTSUPP', `${vdev.pdev.name} takes no hints`);
  const { sizeof } = vfio_device_feature_dma_buf_tph;
  if (!checkFeature(vdev.profile.proposed!.tph, flags, argsz, VFIO_DEVICE_FEATURE_SET, sizeof)) return 0;
  const hints = vfio_device_feature_dma_buf_tph.read(viewOf(arg.read(0, sizeof)));
  if ((hints.flags & ~(VFIO_DMA_BUF_TPH_ST | VFIO_DMA_BUF_TPH_ST_EXT)) !== 0) {
    throw new Errno('EINVAL', `TPH flags 0x${hints.flags.toString(16)}: ST and ST_EXT are all that there are`);
  }
  if (hints.ph > MAX_PH) throw new Errno('EINVAL', `TPH hint ${hints.ph}: 0 to ${MAX_PH}`);
  const isExtended = (hints.flags & VFIO_DMA_BUF_TPH_ST_EXT) !== 0;
  if (isExtended && completer !== PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH) {
    throw new Errno('EOPNOTSUPP', `${vdev.pdev.name} takes no extended steering tags`);
  }
  const dmabuf = yield* bufferOf(caller, hints.dmabuf_fd);
  try {
    const priv = yield* ownBuffer(vdev, dmabuf);
    yield* dmabuf.resv.lock.lock();
    priv.tph = {
      steeringTag: (hints.flags & VFIO_DMA_BUF_TPH_ST) !== 0 ? hints.steering_tag : null,
      steeringTagExt: isExtended ? hints.steering_tag_ext : null,
      ph: hints.ph,
    };
    yield* dmabuf.resv.lock.unlock();
  } finally {
    yield* dmabuf.put();
  }
  return 0;
}

/** EINVAL for a buffer that another device exported, or none. */
function* ownBuffer(vdev: RegisteredDevice, dmabuf: DmaBuf): Task<VfioPciDmaBuf> {
  const { priv } = dmabuf;
  yield* vdev.memoryLock.read();
  const isOwn = priv instanceof VfioPciDmaBuf && priv.vdev.get() === vdev;
  yield* vdev.memoryLock.releaseRead();
  if (!isOwn) throw new Errno('EINVAL', `the dma-buf is not of ${vdev.pdev.name}`);
  return priv;
}

/** pcie_tph_completer_type: what the device says in Device Capabilities 2, bits 13:12. */
function tphCompleter({ config }: PciFunction): number {
  const cap = config.find(PCI_CAP_ID_EXP);
  if (cap === 0) return PCI_EXP_DEVCAP2_TPH_COMP_NONE;
  return (config.read(cap + PCI_EXP_DEVCAP2, 4) & PCI_EXP_DEVCAP2_TPH_COMP_MASK) >>> 12;
}
