/** Enumeration, as firmware and Linux do it at boot: bus numbers, host addresses of the BARs, IOMMU groups. */
import { Errno } from '../abi/errno.ts';
import type { Bar } from './bar.ts';
import { placeBars } from './bar-windows.ts';
import type { PciFunction } from './function.ts';
import type { Port } from './port.ts';

/** The host addresses that a memory BAR answers. */
export interface BarWindow {
  readonly start: number;
  readonly end: number;
  readonly fn: PciFunction;
  readonly bar: Bar;
}

/** Numbers the buses depth first and gives each function its place. Returns the functions in the order of the walk. */
export function numberBuses(rootPorts: readonly Port[]): PciFunction[] {
  const found: PciFunction[] = [];
  let nextBus = 1;
  const number = (port: Port): void => {
    port.secondaryBus = nextBus++;
    for (const child of port.ports) number(child);
    for (const [i, fn] of port.functions.entries()) {
      fn.address = { segment: 0, bus: port.secondaryBus, devfn: i };
      fn.parent = port;
      found.push(fn);
    }
    port.subordinateBus = nextBus - 1;
  };
  for (const port of rootPorts) number(port);
  return found;
}

/**
 * Gives every BAR an address. Returns the windows of the memory BARs by address. ENOSPC where the host's windows are
 * full.
 */
export function assignAddresses(functions: readonly PciFunction[]): BarWindow[] {
  const windows: BarWindow[] = [];
  const bars = functions.flatMap((fn) =>
    fn.bars
      .filter((bar): bar is Bar => bar !== null)
      .map((bar) => ({ fn, bar, kind: bar.kind, sizeBytes: bar.sizeBytes })),
  );
  for (const { bar: placed, address } of placeBars(bars)) {
    const { fn, bar } = placed;
    if (address === null) throw new Errno('ENOSPC', `BAR ${bar.index} of ${fn.name} finds no address`);
    bar.address = address;
    if (bar.kind !== 'io') windows.push({ start: address, end: address + bar.sizeBytes, fn, bar });
  }
  for (const fn of functions) fn.writeBarAddresses();
  return windows.sort((a, b) => a.start - b.start);
}

/** Functions that can reach each other past the IOMMU share a group. */
export function assignGroups(functions: readonly PciFunction[]): void {
  let next = 1;
  const groups = new Map<Port, number>();
  for (const fn of functions) {
    let owner: Port = fn.parent!;
    for (const port of fn.parent!.path()) if (port.kind !== 'root' && !port.redirects) owner = port.parent ?? port;
    if (!groups.has(owner)) groups.set(owner, next++);
    fn.iommuGroup = groups.get(owner)!;
  }
}
