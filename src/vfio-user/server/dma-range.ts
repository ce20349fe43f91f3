/** The rule for ranges of DMA addresses, for all commands. */
import { Errno } from '../../abi/errno.ts';
import { U64_MAX } from '../../abi/u64.ts';

/**
 * The end of the addresses that a device can reach. Devices and the fabric use JavaScript numbers, which are exact up
 * to 2^53, and add lengths to them. x86's physical addresses end at the same place.
 */
const DMA_END = 1n << 52n;

/** EINVAL for a range that is empty, is not whole pages, or wraps around. */
export function checkDmaRange(what: string, pageBytes: number, address: bigint, size: bigint): void {
  const page = BigInt(pageBytes);
  const isAligned = address % page === 0n && size % page === 0n;
  if (size === 0n || !isAligned || address + size > U64_MAX + 1n) {
    const at = `${size} bytes at 0x${address.toString(16)}`;
    throw new Errno('EINVAL', `${what}: ${at}; ranges are whole pages of ${pageBytes} bytes, within 64 bits`);
  }
}

/** EOVERFLOW for a range that ends beyond the reach of devices. */
export function checkReachable(what: string, end: bigint): void {
  if (end > DMA_END) throw new Errno('EOVERFLOW', `${what}: ends at 0x${end.toString(16)}; addresses have 52 bits`);
}
