/** The names of capabilities. */
import * as regs from '../abi/pci_regs.ts';

const STANDARD = namesOf('PCI_CAP_ID_');
const EXTENDED = namesOf('PCI_EXT_CAP_ID_');

/** Returns the abbreviation of pci_regs.h: PM, MSIX, EXP, ... */
export function capabilityName(id: number, extended: boolean): string {
  return (extended ? EXTENDED : STANDARD).get(id) ?? `0x${id.toString(16).padStart(extended ? 4 : 2, '0')}`;
}

function namesOf(prefix: string): Map<number, string> {
  const entries = Object.entries(regs).filter(([name, value]) => name.startsWith(prefix) && typeof value === 'number');
  return new Map(entries.map(([name, value]) => [value as number, name.slice(prefix.length)]));
}
