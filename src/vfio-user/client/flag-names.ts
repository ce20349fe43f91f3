/** The names of flags and indexes, as linux/vfio.h has them without their prefixes. */
import * as vfio from '../../abi/vfio.ts';
import * as feature from '../../abi/vfio-feature.ts';

/** VFIO_DEVICE_FLAGS_*: RESET, PCI, ... */
export function deviceFlagNames(flags: number): string[] {
  return setNames(DEVICE, flags);
}

/** VFIO_REGION_INFO_FLAG_*: READ, WRITE, MMAP, CAPS. */
export function regionFlagNames(flags: number): string[] {
  return setNames(REGION, flags);
}

/** VFIO_IRQ_INFO_*: EVENTFD, MASKABLE, AUTOMASKED, NORESIZE. */
export function irqFlagNames(flags: number): string[] {
  return setNames(IRQ, flags);
}

/** VFIO_MIGRATION_*: STOP_COPY, P2P, PRE_COPY. */
export function migrationFlagNames(flags: number): string[] {
  return setNames(MIGRATION, flags);
}

/** VFIO_DEVICE_STATE_*: RUNNING, STOP, ... */
export function deviceStateName(state: number): string {
  return STATES.find(([value]) => value === state)?.[1] ?? `${state}`;
}

/** The regions of a PCI device, by their indexes. */
export const PCI_REGION_NAMES = ['bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5', 'rom', 'config', 'vga'] as const;

/** The interrupts of a PCI device, by their indexes. */
export const PCI_IRQ_NAMES = ['INTX', 'MSI', 'MSIX', 'ERR', 'REQ'] as const;

type Names = readonly (readonly [value: number, name: string])[];

function namesOf(abi: object, prefix: string): Names {
  // The names of a module's exports come in the order of the alphabet.
  const all = Object.entries(abi).filter(([name, value]) => name.startsWith(prefix) && typeof value === 'number');
  return all.map(([name, value]) => [value as number, name.slice(prefix.length)] as const).sort(([a], [b]) => a - b);
}

/** Returns the names of the bits that are set. Bits without a name are one hexadecimal number. */
function setNames(names: Names, flags: number): string[] {
  const known = names.filter(([bit]) => (flags & bit) !== 0);
  const rest = known.reduce((left, [bit]) => left & ~bit, flags) >>> 0;
  return [...known.map(([, name]) => name), ...(rest === 0 ? [] : [`0x${rest.toString(16)}`])];
}

const DEVICE = namesOf(vfio, 'VFIO_DEVICE_FLAGS_');
const REGION = namesOf(vfio, 'VFIO_REGION_INFO_FLAG_');
const IRQ = namesOf(vfio, 'VFIO_IRQ_INFO_');
const MIGRATION = namesOf(feature, 'VFIO_MIGRATION_');
const STATES = namesOf(feature, 'VFIO_DEVICE_STATE_').filter(([, name]) => name !== 'NR');
