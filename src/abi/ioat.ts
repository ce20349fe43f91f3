/**
 * Registers of Intel's I/OAT DMA engine ("CBDMA" of the Xeon datasheets, volume 2, "Integrated I/O: DMA"), of versions
 * 3.2 and 3.3. Names are those of Linux's drivers/dma/ioat/registers.h. All little-endian.
 */
import { struct, u32, u64 } from './layout.ts';

export const PCI_VENDOR_ID_INTEL = 0x8086;
/** The engine of Skylake servers. */
export const PCI_DEVICE_ID_INTEL_IOAT_SKX = 0x2021;

/** In config space, outside all capabilities: errors of a channel; writing ones clears them. 32 bits. */
export const IOAT_PCI_CHANERR_INT_OFFSET = 0x180;
export const IOAT_PCI_CHANERRMASK_INT_OFFSET = 0x184;

/** Registers of the whole device, in BAR 0. */
export const IOAT_MMIO_BAR = 0;
export const IOAT_CHANCNT_OFFSET = 0x00; // 8 bits
export const IOAT_XFERCAP_OFFSET = 0x01; // 8 bits: the most bytes of a descriptor, as a power of two
export const IOAT_INTRCTRL_OFFSET = 0x03; // 8 bits
export const IOAT_INTRCTRL_MASTER_INT_EN = 1 << 0; // a read clears it
export const IOAT_INTRCTRL_INT_STATUS = 1 << 1; // a bit of ATTNSTATUS is set
export const IOAT_INTRCTRL_INT = 1 << 2; // both of these
export const IOAT_INTRCTRL_MSIX_VECTOR_CONTROL = 1 << 3; // each channel has its vector
export const IOAT_ATTNSTATUS_OFFSET = 0x04; // 32 bits, one for each channel; a read clears them
export const IOAT_VER_OFFSET = 0x08; // 8 bits
export const IOAT_VER_3_3 = 0x33;
export const IOAT_DMA_CAP_OFFSET = 0x10; // 32 bits: the engine's operations besides copies

/** Channel n is at (n + 1) times this. */
export const IOAT_CHANNEL_MMIO_SIZE = 0x80;

export const IOAT_CHANCTRL_OFFSET = 0x00; // 16 bits
export const IOAT_CHANCTRL_INT_REARM = 1 << 0; // each interrupt sets it and blocks further ones; writing 1 clears it
export const IOAT_CHANCTRL_ERR_COMPLETION_EN = 1 << 2;
export const IOAT_CHANCTRL_ANY_ERR_ABORT_EN = 1 << 3;
export const IOAT_CHANCTRL_ERR_INT_EN = 1 << 4;
export const IOAT_DMA_COMP_OFFSET = 0x02; // 16 bits
export const IOAT_DMA_COMP_V2 = 1 << 1;
export const IOAT_CHANCMD_OFFSET = 0x04; // 8 bits
export const IOAT_CHANCMD_SUSPEND = 1 << 2;
export const IOAT_CHANCMD_RESUME = 1 << 4;
export const IOAT_CHANCMD_RESET = 1 << 5; // reads as 1 until it is done
export const IOAT_CHAN_DMACOUNT_OFFSET = 0x06; // 16 bits: descriptors since CHAINADDR was written, as a running sum
export const IOAT_CHANSTS_OFFSET = 0x08; // 64 bits: address of the last descriptor done, and the state
export const IOAT_CHANSTS_STATUS = 0x7;
export const IOAT_CHANSTS_ACTIVE = 0x0;
export const IOAT_CHANSTS_DONE = 0x1;
export const IOAT_CHANSTS_SUSPENDED = 0x2;
export const IOAT_CHANSTS_HALTED = 0x3;
export const IOAT_CHAINADDR_OFFSET = 0x10; // 64 bits
export const IOAT_CHANCMP_OFFSET = 0x18; // 64 bits: the address for a copy of CHANSTS when a descriptor asks for it
export const IOAT_CDAR_OFFSET = 0x20; // 64 bits: the descriptor under way
export const IOAT_CHANERR_OFFSET = 0x28; // 32 bits, cleared by writing ones
export const IOAT_CHANERR_SRC_ADDR_ERR = 1 << 0;
export const IOAT_CHANERR_DEST_ADDR_ERR = 1 << 1;
export const IOAT_CHANERR_NEXT_ADDR_ERR = 1 << 2;
export const IOAT_CHANERR_NEXT_DESC_ALIGN_ERR = 1 << 3;
export const IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR = 1 << 4;
export const IOAT_CHANERR_CHANCMD_ERR = 1 << 5;
export const IOAT_CHANERR_READ_DATA_ERR = 1 << 8;
export const IOAT_CHANERR_WRITE_DATA_ERR = 1 << 9;
export const IOAT_CHANERR_CONTROL_ERR = 1 << 10;
export const IOAT_CHANERR_LENGTH_ERR = 1 << 11;
export const IOAT_CHANERR_COMPLETION_ADDR_ERR = 1 << 12;
export const IOAT_CHANERR_MASK_OFFSET = 0x2c; // 32 bits: errors that raise no interrupt
export const IOAT_DCACTRL_OFFSET = 0x30; // 32 bits: cache hints

export const IOAT_DESCRIPTOR_ALIGN = 64;
export const IOAT_OP_COPY = 0;
/** Fields of `ctl`; the operation is its high byte. */
export const IOAT_DESC_CTL_INT_EN = 1 << 0;
export const IOAT_DESC_CTL_COMPL_WRITE = 1 << 3;
export const IOAT_DESC_CTL_NULL = 1 << 5;
export const IOAT_DESC_CTL_OP_SHIFT = 24;

export const ioat_dma_descriptor = struct('ioat_dma_descriptor', 64, {
  size: u32(0),
  ctl: u32(4),
  src_addr: u64(8),
  dst_addr: u64(16),
  next: u64(24),
  rsv1: u64(32),
  rsv2: u64(40),
  user1: u64(48), // for the driver
  user2: u64(56),
});
