/** Decodes descriptors of the I/OAT engine. */
import {
  IOAT_CHANERR_CONTROL_ERR,
  IOAT_CHANERR_DEST_ADDR_ERR,
  IOAT_CHANERR_LENGTH_ERR,
  IOAT_CHANERR_SRC_ADDR_ERR,
  IOAT_DESC_CTL_NULL,
  IOAT_DESC_CTL_OP_SHIFT,
  IOAT_OP_COPY,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { ADDRESS_END, addressAt } from '../bus-address.ts';

/** XFERCAP: the most bytes of one descriptor, as a power of two. */
export const XFERCAP = 20;

export interface Descriptor {
  readonly source: number;
  readonly destination: number;
  /** 0 for a null descriptor, which copies nothing and completes. */
  readonly sizeBytes: number;
  readonly control: number;
  readonly next: bigint;
}

/** Decodes a descriptor from its 64 bytes. Returns the bits of CHANERR for an invalid one. */
export function decodeDescriptor(view: DataView): Descriptor | number {
  const { size, ctl, src_addr, dst_addr, next } = ioat_dma_descriptor.fields;
  const control = ctl.get(view);
  if (control >>> IOAT_DESC_CTL_OP_SHIFT !== IOAT_OP_COPY) return IOAT_CHANERR_CONTROL_ERR;
  if ((control & IOAT_DESC_CTL_NULL) !== 0) {
    return { source: 0, destination: 0, sizeBytes: 0, control, next: next.getBig(view) };
  }
  const sizeBytes = size.get(view);
  if (sizeBytes === 0 || sizeBytes > 2 ** XFERCAP) return IOAT_CHANERR_LENGTH_ERR;
  const source = addressAt(view, src_addr.offset);
  const destination = addressAt(view, dst_addr.offset);
  if (source + sizeBytes > ADDRESS_END) return IOAT_CHANERR_SRC_ADDR_ERR;
  if (destination + sizeBytes > ADDRESS_END) return IOAT_CHANERR_DEST_ADDR_ERR;
  return { source, destination, sizeBytes, control, next: next.getBig(view) };
}
