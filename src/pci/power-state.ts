/** Power states of a function, as its power management capability has them. */
import { PCI_CAP_ID_PM, PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK, PCI_PM_PMC } from '../abi/pci_regs.ts';
import { PCI_PM_CAP_D1, PCI_PM_CAP_D2 } from '../abi/pci_regs-cap.ts';
import type { ConfigSpace } from './config-space.ts';

/** D0, D1, D2, D3hot. */
export type PciPowerState = 0 | 1 | 2 | 3;

/** The state in PMCSR; D0 without the capability. */
export function powerStateIn(config: ConfigSpace): PciPowerState {
  const pm = config.find(PCI_CAP_ID_PM);
  return pm === 0 ? 0 : ((config.read(pm + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK) as PciPowerState);
}

/** D1 and D2 are optional (PCI PM 1.2, 3.2.3), and every state leads back only to D0. */
export function canEnter(config: ConfigSpace, from: PciPowerState, to: PciPowerState): boolean {
  const pm = config.find(PCI_CAP_ID_PM);
  if (pm === 0) return false;
  const capable = config.read(pm + PCI_PM_PMC, 2);
  if (to === 1 && (capable & PCI_PM_CAP_D1) === 0) return false;
  if (to === 2 && (capable & PCI_PM_CAP_D2) === 0) return false;
  return to === 0 || to > from;
}
