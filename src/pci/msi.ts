/** The enable bits of MSI and MSI-X. */
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
} from '../abi/pci_regs.ts';
import type { Task } from '../task/op.ts';
import type { PciFunction } from './function.ts';

export type MsiKind = 'msi' | 'msix';

const ENABLE = {
  msi: { capability: PCI_CAP_ID_MSI, register: PCI_MSI_FLAGS, bit: PCI_MSI_FLAGS_ENABLE },
  msix: { capability: PCI_CAP_ID_MSIX, register: PCI_MSIX_FLAGS, bit: PCI_MSIX_FLAGS_ENABLE },
} as const;

/** Switches MSI or MSI-X on in the hardware. Does nothing without the capability. */
export function enableMsi(fn: PciFunction, kind: MsiKind): Task {
  return setEnable(fn, kind, true);
}

export function disableMsi(fn: PciFunction, kind: MsiKind): Task {
  return setEnable(fn, kind, false);
}

export function msixEnabled(fn: PciFunction): boolean {
  const { capability, register, bit } = ENABLE.msix;
  const at = fn.config.find(capability);
  return at !== 0 && (fn.config.read(at + register, 2) & bit) !== 0;
}

function* setEnable(fn: PciFunction, kind: MsiKind, on: boolean): Task {
  const { capability, register, bit } = ENABLE[kind];
  const at = fn.config.find(capability);
  if (at === 0) return;
  const flags = fn.config.read(at + register, 2);
  yield* fn.configWrite(at + register, 2, on ? flags | bit : flags & ~bit);
}
