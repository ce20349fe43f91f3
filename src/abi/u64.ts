import { Errno } from './errno.ts';

/**
 * Converts between 64-bit fields of the ABI and the plain numbers used inside; no other file does. A number holds
 * integers exactly up to 2^53 - 1 = 8 PiB, more than any BAR, memory or file here. Larger values are refused by name,
 * not rounded. Code that needs all 64 bits (overflow rules, ~0 as "all") uses a bigint instead.
 */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;

const TWO_32 = 0x1_0000_0000;
/** High halves up to this keep the joined value at or below Number.MAX_SAFE_INTEGER. */
const HIGH_MAX = 0x1f_ffff;

/** A u64 as a number. Throws EOVERFLOW, naming `what`, above 2^53 - 1. */
export function u64ToNumber(value: bigint, what: string): number {
  if (value < 0n || value > U64_MAX) throw new Errno('EINVAL', `${what} = ${value} is not an unsigned 64-bit value`);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw tooLarge(value, what);
  return Number(value);
}

/** The two halves of a u64, as read by getUint32, joined into a number without a bigint in between. */
export function joinU64(low: number, high: number, what: string): number {
  if (high > HIGH_MAX) throw tooLarge((BigInt(high) << 32n) | BigInt(low), what);
  return high * TWO_32 + low;
}

/** A number as a u64. Throws EINVAL if it is negative, fractional or above 2^53 - 1. */
export function numberToU64(value: number, what: string): bigint {
  checkU64Number(value, what);
  return BigInt(value);
}

/** Throws EINVAL unless `value` is an integer from 0 to 2^53 - 1. */
export function checkU64Number(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new Errno('EINVAL', `${what} = ${value} is not an integer from 0 to 2^53 - 1`);
  }
}

function tooLarge(value: bigint, what: string): Errno {
  return new Errno('EOVERFLOW', `${what} = 0x${value.toString(16)} is above 2^53 - 1; ask for it as a bigint`);
}
