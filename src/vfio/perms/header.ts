/** The standard header: the bits that are the user's copy, and those that may be written. */
import * as regs from '../../abi/pci_regs.ts';
import { ALL, type Declare } from './perm-bits.ts';

export function declareHeader(declare: Declare): void {
  // A VF's own ids read as ones (SR-IOV 1.1, 3.4.1.1).
  declare.field(regs.PCI_VENDOR_ID, 4, ALL, 0);
  declare.field(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE, ALL);
  declare.clear(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE);
  declare.field(regs.PCI_STATUS, 2, regs.PCI_STATUS_CAP_LIST, 0);
  declare.field(regs.PCI_CACHE_LINE_SIZE, 1, 0, ALL);
  declare.field(regs.PCI_LATENCY_TIMER, 1, 0, ALL);
  declare.field(regs.PCI_BIST, 1, 0, ALL);
  for (let i = 0; i < regs.PCI_STD_NUM_BARS; i++) declare.field(regs.PCI_BASE_ADDRESS_0 + 4 * i, 4, ALL, ALL);
  declare.field(regs.PCI_ROM_ADDRESS, 4, ALL, ALL);
  declare.field(regs.PCI_CAPABILITY_LIST, 1, ALL, 0);
  declare.field(regs.PCI_INTERRUPT_LINE, 1, ALL, ALL);
  declare.field(regs.PCI_INTERRUPT_PIN, 1, ALL, 0);
}
