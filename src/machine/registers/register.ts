/**
 * The bits of a capability's registers that software may change, and their values after a reset. They come from the
 * specification, since a device does not report them. Other bits are read-only, and stay as captured.
 */
import type { ReadRegister } from '../capability-length.ts';

export interface Register {
  /** The offset from the start of the capability. */
  offset: number;
  size: 1 | 2 | 4;
  /** Bits that a write sets as given. */
  writable?: number;
  /** Bits that a write of 1 clears. A reset clears them too. */
  clearable?: number;
  /** Read-only bits of a status that a reset clears. */
  status?: number;
  /**
   * The value of the writable bits after a reset; 0 by default. 'kept' where the specification leaves it to the device.
   */
  reset?: number | 'kept';
}

/** Returns the registers of a capability at `at` that software may change. */
export type RegistersOf = (at: number, read: ReadRegister) => Register[];

/** Returns `count` registers of 4 bytes, one after the other. */
export function words(offset: number, count: number, register: Omit<Register, 'offset' | 'size'>): Register[] {
  return Array.from({ length: count }, (_, i) => ({ ...register, offset: offset + 4 * i, size: 4 }));
}

/** Registers that the specification leaves to the device. Every bit is storage, and stays as captured. */
export function plainBytes(from: number, to: number): Register[] {
  const length = Math.max(0, to - from);
  return Array.from({ length }, (_, i) => ({ offset: from + i, size: 1, writable: 0xff, reset: 'kept' }));
}
