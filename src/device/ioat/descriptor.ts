/** What a descriptor of the I/OAT engine says, and the copy that it asks for. */
import {
  IOAT_CHANERR_CONTROL_ERR,
  IOAT_CHANERR_DEST_ADDR_ERR,
  IOAT_CHANERR_LENGTH_ERR,
  IOAT_CHANERR_READ_DATA_ERR,
  IOAT_CHANERR_SRC_ADDR_ERR,
  IOAT_CHANERR_WRITE_DATA_ERR,
  IOAT_DESC_CTL_NULL,
  IOAT_DESC_CTL_OP_SHIFT,
  IOAT_OP_COPY,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { viewOf } from '../../abi/layout.ts';
import type { PciFunction } from '../../pci/function.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';

/** The most bytes of one descriptor, as a power of two: what XFERCAP says. */
export const XFERCAP = 20;
/** Addresses that a bus has. */
const ADDRESS_END = 2n ** 52n;
/** Bytes per request; a revoke waits for at most one. */
export const CHUNK_BYTES = 64 * 1024;

export interface Descriptor {
  readonly source: number;
  readonly destination: number;
  /** 0 for a null descriptor, which copies nothing and completes. */
  readonly sizeBytes: number;
  readonly control: number;
  readonly next: bigint;
}

/** A descriptor from its 64 bytes, or the bits of CHANERR where it makes no sense. */
export function decodeDescriptor(bytes: Uint8Array): Descriptor | number {
  const view = viewOf(bytes);
  const { size, ctl, src_addr, dst_addr, next } = ioat_dma_descriptor.fields;
  const control = ctl.get(view);
  if (control >>> IOAT_DESC_CTL_OP_SHIFT !== IOAT_OP_COPY) return IOAT_CHANERR_CONTROL_ERR;
  if ((control & IOAT_DESC_CTL_NULL) !== 0) {
    return { source: 0, destination: 0, sizeBytes: 0, control, next: next.getBig(view) };
  }
  const sizeBytes = size.get(view);
  if (sizeBytes === 0 || sizeBytes > 2 ** XFERCAP) return IOAT_CHANERR_LENGTH_ERR;
  const source = src_addr.getBig(view);
  const destination = dst_addr.getBig(view);
  if (source + BigInt(sizeBytes) > ADDRESS_END) return IOAT_CHANERR_SRC_ADDR_ERR;
  if (destination + BigInt(sizeBytes) > ADDRESS_END) return IOAT_CHANERR_DEST_ADDR_ERR;
  return { source: Number(source), destination: Number(destination), sizeBytes, control, next: next.getBig(view) };
}

/**
 * Copies by way of `scratch`, of `CHUNK_BYTES`; returns bits of CHANERR. Ends early, with part of it copied, once
 * `goesOn` says no; for the first bytes the caller has asked.
 */
export function* copyDescriptor(
  fn: PciFunction,
  { source, destination, sizeBytes }: Descriptor,
  scratch: Uint8Array,
  goesOn: () => Task<boolean>,
): Task<number> {
  for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
    if (at > 0) {
      yield* condResched();
      if (!(yield* goesOn())) return 0;
    }
    const part = scratch.subarray(0, Math.min(CHUNK_BYTES, sizeBytes - at));
    if ((yield* fn.dmaRead(source + at, part)) !== 'ok') return IOAT_CHANERR_READ_DATA_ERR;
    if (!(yield* goesOn())) return 0;
    if ((yield* fn.dmaWrite(destination + at, part)) !== 'ok') return IOAT_CHANERR_WRITE_DATA_ERR;
  }
  return 0;
}
