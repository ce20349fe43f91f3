/** The lists of capabilities in config space, followed without trust. */
import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci_regs.ts';

const EXTENDED = PCI_CFG_SPACE_SIZE;

export interface FoundList {
  /** Offsets by ID; the first one where an ID comes twice. */
  found: ReadonlyMap<number, number>;
  fault: string | null;
}

export function capabilityList(config: Buffer): FoundList {
  const found = new Map<number, number>();
  if ((config.readUInt16LE(PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return { found, fault: null };
  const seen = new Set<number>();
  for (let at = config[PCI_CAPABILITY_LIST] & ~3; at !== 0; at = config[at + 1] & ~3) {
    if (at < PCI_STD_HEADER_SIZEOF || at > EXTENDED - 4)
      return { found, fault: `a capability at 0x${at.toString(16)}` };
    if (seen.has(at)) return { found, fault: 'the list does not end' };
    seen.add(at);
    if (!found.has(config[at])) found.set(config[at], at);
  }
  return { found, fault: null };
}

export function capabilityAt(config: Buffer, id: number): number | null {
  return capabilityList(config).found.get(id) ?? null;
}

export function extendedList(config: Buffer): FoundList {
  const found = new Map<number, number>();
  const seen = new Set<number>();
  for (let at = EXTENDED; at !== 0; ) {
    const header = config.readUInt32LE(at);
    if (header === 0 && at === EXTENDED) break;
    seen.add(at);
    if (!found.has(header & 0xffff)) found.set(header & 0xffff, at);
    at = (header >>> 20) & ~3;
    if (at !== 0 && (at < EXTENDED || at > PCI_CFG_SPACE_EXP_SIZE - 4)) {
      return { found, fault: `an extended capability at 0x${at.toString(16)}` };
    }
    if (seen.has(at)) return { found, fault: 'the list does not end' };
  }
  return { found, fault: null };
}
