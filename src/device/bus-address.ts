/** Bus addresses in structures that a driver wrote. */

/** The end of a bus's addresses: x86-64 has 52 bits of them. */
export const ADDRESS_END = 2 ** 52;

/**
 * Reads 64 bits as an address. Exact up to ADDRESS_END, and only known to be larger beyond it. Avoids a bigint, which
 * is an object for each call.
 */
export function addressAt(view: DataView, offset: number): number {
  return joinAddress(view.getUint32(offset, true), view.getUint32(offset + 4, true));
}

/** As `addressAt`, from two registers. */
export function joinAddress(low: number, high: number): number {
  return high * 2 ** 32 + low;
}
