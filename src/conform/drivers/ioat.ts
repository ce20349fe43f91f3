/** Barter's own DMA engine, Intel's I/OAT: one copy by one descriptor. */
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_DESC_CTL_INT_EN,
  IOAT_INTRCTRL_MASTER_INT_EN,
  IOAT_INTRCTRL_MSIX_VECTOR_CONTROL,
  IOAT_INTRCTRL_OFFSET,
  ioat_dma_descriptor,
  PCI_DEVICE_ID_INTEL_IOAT_SKX,
  PCI_VENDOR_ID_INTEL,
} from '../../abi/ioat.ts';
import { VFIO_PCI_MSIX_IRQ_INDEX } from '../../abi/vfio.ts';
import { enable, writeRegister } from '../registers.ts';
import { type DeviceDriver, deviceId } from './driver.ts';

const SIZE = 4096;
const CHANNEL = IOAT_CHANNEL_MMIO_SIZE;
const SOURCE = 0x1000;

export const ioatDriver: DeviceDriver = {
  name: 'ioat',
  irqIndex: VFIO_PCI_MSIX_IRQ_INDEX,
  sizeBytes: SIZE,
  settleMs: 30,

  matches: (facts) => deviceId(facts) === ((PCI_DEVICE_ID_INTEL_IOAT_SKX << 16) | PCI_VENDOR_ID_INTEL) >>> 0,

  start(peer, memory, { target, scratch, isMaster }) {
    enable(peer, isMaster);
    const source = scratch + SOURCE;
    memory.at(source, SIZE).fill(0x5a);
    const fields = { size: SIZE, ctl: IOAT_DESC_CTL_INT_EN, src_addr: source, dst_addr: target, next: 0 };
    memory.at(scratch, ioat_dma_descriptor.sizeof).set(ioat_dma_descriptor.encode(fields));
    const control = IOAT_INTRCTRL_MASTER_INT_EN | IOAT_INTRCTRL_MSIX_VECTOR_CONTROL;
    writeRegister(peer, IOAT_INTRCTRL_OFFSET, control, 1);
    writeRegister(peer, CHANNEL + IOAT_CHANCTRL_OFFSET, IOAT_CHANCTRL_INT_REARM, 2);
    writeRegister(peer, CHANNEL + IOAT_CHAINADDR_OFFSET, scratch, 8);
    writeRegister(peer, CHANNEL + IOAT_CHAN_DMACOUNT_OFFSET, 1, 2);
  },
};
