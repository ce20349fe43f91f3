/** The names of capabilities. */
import * as regs from '../abi/pci_regs.ts';

let standard: Map<number, string> | null = null;
let extended: Map<number, string> | null = null;

/** Returns the abbreviation of pci_regs.h: PM, MSIX, EXP, ... */
export function capabilityName(id: number, isExtended: boolean): string {
  standard ??= namesOf('PCI_CAP_ID_');
  extended ??= namesOf('PCI_EXT_CAP_ID_');
  return (isExtended ? extended : standard).get(id) ?? `0x${id.toString(16).padStart(isExtended ? 4 : 2, '0')}`;
}

function namesOf(prefix: string): Map<number, string> {
  const entries = Object.entries(regs).filter(([name, value]) => name.startsWith(prefix) && typeof value === 'number');
  return new Map(entries.map(([name, value]) => [value as number, name.slice(prefix.length)]));
}
