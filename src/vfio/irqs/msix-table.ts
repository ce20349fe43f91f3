/** The place of a function's MSI-X table. Users reach the table only by SET_IRQS. */
import {
  PCI_CAP_ID_MSIX,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
} from '../../abi/pci_regs.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';

/** In bytes from the start of the BAR. */
export interface MsixTable {
  readonly barIndex: number;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Null where the function has no MSI-X. */
export function findMsixTable(config: ConfigSpace): MsixTable | null {
  const at = config.find(PCI_CAP_ID_MSIX);
  if (at === 0) return null;
  const table = config.read(at + PCI_MSIX_TABLE, 4);
  const vectors = (config.read(at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
  return {
    barIndex: table & PCI_MSIX_TABLE_BIR,
    offset: (table & ~PCI_MSIX_TABLE_BIR) >>> 0,
    sizeBytes: vectors * PCI_MSIX_ENTRY_SIZE,
  };
}
