/** The length of each capability in bytes, by the specification that defines it. */
import * as regs from '../abi/pci_regs.ts';

/** A register of 1, 2 or 4 bytes, at an offset from the start of config space. */
export type ReadRegister = (offset: number, size: 1 | 2 | 4) => number;

export interface CapabilityLength {
  /** The bytes that every device of the kind has; two capabilities cannot share them. */
  least: number;
  /** The bytes including registers that are optional or depend on others. */
  full: number;
}

/** Returns the length of a standard capability whose header is at `at`. */
export function standardLength(id: number, at: number, read: ReadRegister): CapabilityLength {
  switch (id) {
    case regs.PCI_CAP_ID_MSI: {
      const flags = read(at + regs.PCI_MSI_FLAGS, 2);
      const is64 = (flags & regs.PCI_MSI_FLAGS_64BIT) !== 0;
      const masks = (flags & regs.PCI_MSI_FLAGS_MASKBIT) !== 0;
      return exactly((is64 ? 14 : 10) + (masks ? 10 : 0));
    }
    case regs.PCI_CAP_ID_VNDR:
      // Some devices write 0 here, so only the header is certain.
      return exactly(Math.max(3, read(at + 2, 1)));
    case regs.PCI_CAP_ID_EXP: {
      // Devices inside a root complex leave registers out; so do some that claim version 2.
      const version = read(at + regs.PCI_EXP_FLAGS, 2) & regs.PCI_EXP_FLAGS_VERS;
      return { least: 0x0c, full: version <= 1 ? 0x14 : 0x3c };
    }
    case regs.PCI_CAP_ID_EA:
      return { least: 4, full: enhancedAllocationLength(at, read) };
    default:
      return exactly(STANDARD.get(id) ?? 4);
  }
}

/** Returns the length of an extended capability whose header is at `at`. */
export function extendedLength(id: number, at: number, read: ReadRegister): CapabilityLength {
  switch (id) {
    case regs.PCI_EXT_CAP_ID_VNDR:
    case regs.PCI_EXT_CAP_ID_DVSEC:
      return exactly(Math.max(8, read(at + 4, 4) >>> 20));
    case regs.PCI_EXT_CAP_ID_ERR:
      return { least: 0x2c, full: 0x48 };
    case regs.PCI_EXT_CAP_ID_VC:
    case regs.PCI_EXT_CAP_ID_VC9:
    case regs.PCI_EXT_CAP_ID_MFVC:
      return { least: 0x1c, full: 0x10 + 0x0c * ((read(at + 4, 4) & 7) + 1) };
    case regs.PCI_EXT_CAP_ID_ACS: {
      const bits = (read(at + regs.PCI_ACS_CAP, 2) & regs.PCI_ACS_EC) !== 0 ? read(at + 5, 1) : 0;
      return { least: 8, full: 8 + 4 * Math.ceil(bits / 32) };
    }
    case regs.PCI_EXT_CAP_ID_TPH: {
      const capability = read(at + 4, 4);
      // Location 1: the capability contains the table of steering tags.
      const entries = ((capability >>> 9) & 3) === 1 ? ((capability >>> 16) & 0x7ff) + 1 : 0;
      return { least: 0x0c, full: 0x0c + 4 * Math.ceil(entries / 2) };
    }
    case regs.PCI_EXT_CAP_ID_REBAR: {
      const count =
        (read(at + regs.PCI_REBAR_CTRL, 4) & regs.PCI_REBAR_CTRL_NBAR_MASK) >>> regs.PCI_REBAR_CTRL_NBAR_SHIFT;
      return { least: 4, full: 4 + 8 * count };
    }
    case regs.PCI_EXT_CAP_ID_DOE:
      // The mailboxes after the status are not served, so another capability may take their place.
      return { least: 0x10, full: 0x18 };
    default:
      return exactly(EXTENDED.get(id) ?? 4);
  }
}

function exactly(bytes: number): CapabilityLength {
  return { least: bytes, full: bytes };
}

const STANDARD = new Map<number, number>([
  [regs.PCI_CAP_ID_PM, 8],
  [regs.PCI_CAP_ID_AGP, 12],
  [regs.PCI_CAP_ID_VPD, 8],
  [regs.PCI_CAP_ID_PCIX, 8],
  [regs.PCI_CAP_ID_SHPC, 8],
  [regs.PCI_CAP_ID_SSVID, 8],
  [regs.PCI_CAP_ID_AGP3, 12],
  [regs.PCI_CAP_ID_MSIX, 12],
  [regs.PCI_CAP_ID_SATA, 8],
  [regs.PCI_CAP_ID_AF, 6],
]);

const EXTENDED = new Map<number, number>([
  [regs.PCI_EXT_CAP_ID_DSN, 0x0c],
  [regs.PCI_EXT_CAP_ID_PWR, 0x10],
  [regs.PCI_EXT_CAP_ID_ARI, 8],
  [regs.PCI_EXT_CAP_ID_ATS, 8],
  [regs.PCI_EXT_CAP_ID_SRIOV, 0x40],
  [regs.PCI_EXT_CAP_ID_MCAST, 0x30],
  [regs.PCI_EXT_CAP_ID_PRI, 0x10],
  [regs.PCI_EXT_CAP_ID_DPA, 0x10],
  [regs.PCI_EXT_CAP_ID_LTR, 8],
  [regs.PCI_EXT_CAP_ID_SECPCI, 0x0c],
  [regs.PCI_EXT_CAP_ID_PASID, 8],
  [regs.PCI_EXT_CAP_ID_L1SS, 0x10],
  [regs.PCI_EXT_CAP_ID_PTM, 0x0c],
  [regs.PCI_EXT_CAP_ID_DLF, 0x0c],
]);

/** Adds up the entries. Each gives its length in words of 4 bytes, without the first one. */
function enhancedAllocationLength(at: number, read: ReadRegister): number {
  const entries = read(at + 2, 1) & 0x3f;
  let length = 4;
  for (let i = 0; i < entries && at + length + 4 <= regs.PCI_CFG_SPACE_SIZE; i++) {
    length += 4 * ((read(at + length, 4) & 7) + 1);
  }
  return length;
}
