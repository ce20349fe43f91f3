/** The registers of one channel, and the form in which a migration transfers a channel. */
import {
  IOAT_CDAR_OFFSET,
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMP_OFFSET,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_MASK_OFFSET,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_OFFSET,
  IOAT_DCACTRL_OFFSET,
  IOAT_DMA_COMP_OFFSET,
} from '../../abi/ioat.ts';
import { bytes, packedStruct, u8, u16, u64 } from '../../abi/layout.ts';
import type { RegisterMap } from '../registers.ts';

export const CHANNEL_REGISTERS = {
  CHANCTRL: { offset: IOAT_CHANCTRL_OFFSET, bytes: 2, access: 'read-write' },
  DMA_COMP: { offset: IOAT_DMA_COMP_OFFSET, bytes: 2, access: 'read-only' },
  CHANCMD: { offset: IOAT_CHANCMD_OFFSET, bytes: 1, access: 'command' },
  DMACOUNT: { offset: IOAT_CHAN_DMACOUNT_OFFSET, bytes: 2, access: 'read-write' },
  CHANSTS: { offset: IOAT_CHANSTS_OFFSET, bytes: 8, access: 'read-only' },
  CHAINADDR: { offset: IOAT_CHAINADDR_OFFSET, bytes: 8, access: 'read-write' },
  CHANCMP: { offset: IOAT_CHANCMP_OFFSET, bytes: 8, access: 'read-write' },
  CDAR: { offset: IOAT_CDAR_OFFSET, bytes: 8, access: 'read-only' },
  CHANERR: { offset: IOAT_CHANERR_OFFSET, bytes: 4, access: 'write-1-to-clear' },
  CHANERR_MASK: { offset: IOAT_CHANERR_MASK_OFFSET, bytes: 4, access: 'read-write' },
  DCACTRL: { offset: IOAT_DCACTRL_OFFSET, bytes: 4, access: 'read-write' },
} as const satisfies RegisterMap;
export type ChannelRegister = keyof typeof CHANNEL_REGISTERS;

/** The migrated form of a quiesced channel: its registers, and the state that they do not show. */
export const savedChannel = packedStruct('saved_ioat_channel', IOAT_CHANNEL_MMIO_SIZE + 29, {
  registers: bytes(0, IOAT_CHANNEL_MMIO_SIZE),
  completed: u64(IOAT_CHANNEL_MMIO_SIZE),
  current: u64(IOAT_CHANNEL_MMIO_SIZE + 8),
  next: u64(IOAT_CHANNEL_MMIO_SIZE + 16),
  done: u16(IOAT_CHANNEL_MMIO_SIZE + 24),
  state: u8(IOAT_CHANNEL_MMIO_SIZE + 26),
  suspended: u8(IOAT_CHANNEL_MMIO_SIZE + 27),
  interruptIsDue: u8(IOAT_CHANNEL_MMIO_SIZE + 28),
});
export const SAVED_CHANNEL_BYTES = savedChannel.sizeof;
