/** The rules for BARs beyond the schema: their slots, their sizes, and the MSI-X table in one of them. */
import type { BarDescription } from '../schema.ts';
import type { Problem } from '../yaml.ts';

/** A memory BAR's register has four bits for its kind (PCI 3.0, 6.2.5.1). */
const MIN_MEMORY_BYTES = 16;
/** A register decodes at least 4 ports. Legacy IDE has ports of 1 byte, which no register decodes. */
const MAX_IO_BYTES = 2 ** 16;
const MAX_MEM32_BYTES = 2 ** 31;

/** `path` starts at the device. */
export function findBarProblem(bars: readonly BarDescription[], isVirtfn: boolean): Problem | null {
  const owners = new Map<number, string>();
  for (const [i, bar] of bars.entries()) {
    const at = (field: string, message: string): Problem => ({ path: ['bars', i, field], message });
    const { index, kind, size } = bar;
    const owner = owners.get(index);
    if (owner !== undefined) return at('index', `slot ${index} is taken by ${owner}`);
    owners.set(index, `BAR ${index}`);
    if (kind === 'mem64') {
      const upper = owners.get(index + 1);
      if (index === 5) return at('index', 'a mem64 BAR takes two slots, and there is none behind 5; use mem32');
      if (upper !== undefined) return at('index', `the upper half of BAR ${index} needs slot ${index + 1} of ${upper}`);
      owners.set(index + 1, `the upper half of BAR ${index}`);
    }
    const message = kind === 'io' ? findIoProblem(bar, isVirtfn) : findMemoryProblem(kind, size);
    if (message !== null) return at(message.field, message.text);
  }
  return null;
}

function findIoProblem(bar: BarDescription, isVirtfn: boolean): { field: string; text: string } | null {
  if (isVirtfn) return { field: 'kind', text: 'a virtual function has no I/O BARs' };
  if (bar.prefetchable) return { field: 'prefetchable', text: 'I/O ports are not prefetchable' };
  return bar.size > MAX_IO_BYTES ? { field: 'size', text: 'there are 64K I/O ports in all' } : null;
}

function findMemoryProblem(kind: 'mem32' | 'mem64', size: number): { field: string; text: string } | null {
  if (size < MIN_MEMORY_BYTES) return { field: 'size', text: `a memory BAR has ${MIN_MEMORY_BYTES} bytes at least` };
  if (kind === 'mem32' && size > MAX_MEM32_BYTES) {
    return { field: 'size', text: 'more than 2G need a 64-bit address; use kind: mem64' };
  }
  return null;
}

/** The places of an MSI-X table and its pending bits: each has a BAR and an offset in bytes. */
export interface MsixPlace {
  vectors: number;
  table: { bar: number; offset: number };
  pba: { bar: number; offset: number };
}

export interface MsixProblem {
  part: 'vectors' | 'bar' | 'table' | 'pba';
  message: string;
}

const ENTRY_BYTES = 16;

/** Checks that the table and the pending bits lie in memory BARs, apart from each other. */
export function findMsixProblem(msix: MsixPlace, bars: readonly BarDescription[]): MsixProblem | null {
  const { vectors, table, pba } = msix;
  const tableBytes = ENTRY_BYTES * vectors;
  const pbaBytes = 8 * Math.ceil(vectors / 64);
  for (const [part, place, bytes] of [['table', table, tableBytes] as const, ['pba', pba, pbaBytes] as const]) {
    const what = part === 'table' ? `the table (${vectors} vectors)` : 'the pending bit array';
    const bar = bars.find(({ index }) => index === place.bar);
    if (bar === undefined) return { part: 'bar', message: `the device has no BAR ${place.bar} for ${what}` };
    if (bar.kind === 'io')
      return { part: 'bar', message: `BAR ${place.bar} is I/O ports, and ${what} must be in memory` };
    if (place.offset + bytes > bar.size) {
      const end = `${hex(place.offset)} to ${hex(place.offset + bytes - 1)}`;
      return { part, message: `${what} takes ${end}, and BAR ${place.bar} has ${hex(bar.size)} bytes` };
    }
  }
  const apart = table.offset + tableBytes <= pba.offset || pba.offset + pbaBytes <= table.offset;
  if (table.bar !== pba.bar || apart) return null;
  const tableEnd = table.offset + tableBytes;
  const text = `the pending bits at ${hex(pba.offset)} overlap the table (${hex(table.offset)} to ${hex(tableEnd - 1)})`;
  return { part: 'pba', message: `${text}; ${hex(tableEnd)} is behind it` };
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
