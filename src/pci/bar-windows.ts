/** The windows of the host's address space for each kind of BAR, and the layout of BARs in them. */
import type { BarKind } from './bar.ts';

export const BAR_WINDOWS: Record<BarKind, { start: number; end: number; name: string }> = {
  mem32: { start: 0x8000_0000, end: 2 ** 32, name: 'the space below 4 GiB' },
  /** Physical addresses of x86-64 have 52 bits. */
  mem64: { start: 2 ** 42, end: 2 ** 52, name: 'the space of 52-bit addresses' },
  /** The chipset uses the ports below. */
  io: { start: 0x1000, end: 0x1_0000, name: 'the space of I/O ports' },
};

/**
 * An address for each BAR, or null if there is no room. Places the largest first, so that every BAR is aligned to its
 * size without holes. A memory BAR does not share its pages.
 */
export function placeBars<B extends { kind: BarKind; sizeBytes: number }>(
  bars: readonly B[],
): { bar: B; address: number | null }[] {
  const next = { mem32: BAR_WINDOWS.mem32.start, mem64: BAR_WINDOWS.mem64.start, io: BAR_WINDOWS.io.start };
  const largestFirst = [...bars].sort((a, b) => b.sizeBytes - a.sizeBytes);
  return largestFirst.map((bar) => {
    const step = Math.max(bar.sizeBytes, bar.kind === 'io' ? 4 : 4096);
    const address = Math.ceil(next[bar.kind] / step) * step;
    next[bar.kind] = address + step;
    return { bar, address: address + step <= BAR_WINDOWS[bar.kind].end ? address : null };
  });
}
