/** One write to config space, and tests of the registers and bits that it reaches. */

/** A write to config space, within one dword. */
export interface RegisterWrite {
  /** From the start of config space; the write stays within one dword. */
  readonly offset: number;
  /** The bytes of the register that it writes. */
  readonly size: 1 | 2 | 4;
  /** Little-endian, from `offset` on. */
  readonly value: number;
}

/** Whether the write reaches the byte at `register`. */
export function covers({ offset, size }: RegisterWrite, register: number): boolean {
  return offset <= register && offset + size > register;
}

/** Whether two ranges of registers have a byte in common. */
export function overlaps(offset: number, size: number, register: number, sizeBytes: number): boolean {
  return offset < register + sizeBytes && offset + size > register;
}

/** Whether the write sets one of `bits` of the 16-bit register at `register`. A write of either byte counts. */
export function setsBits({ offset, size, value }: RegisterWrite, register: number, bits: number): boolean {
  for (let i = 0; i < 2; i++) {
    const byte = register + i - offset;
    if (byte >= 0 && byte < size && ((value >>> (8 * byte)) & (bits >>> (8 * i)) & 0xff) !== 0) return true;
  }
  return false;
}
