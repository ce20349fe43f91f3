/**
 * Which bits of a captured device's capabilities software may write: by the specification, since sysfs does not tell.
 */
import {
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVSTA,
  PCI_EXP_LNKCTL,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSIX_FLAGS,
  PCI_PM_CTRL,
  PCI_PM_CTRL_STATE_MASK,
} from '../abi/pci_regs.ts';
import type { ConfigSpace } from '../pci/config-space.ts';

/** Opens the writable registers, and clears what was switched on while the device was captured. */
export function allowCapabilities(config: ConfigSpace): void {
  const pm = config.find(PCI_CAP_ID_PM);
  if (pm !== 0) {
    config.allow(pm + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK | 0x0100, 0x8000);
    config.set(pm + PCI_PM_CTRL, 2, config.read(pm + PCI_PM_CTRL, 2) & ~PCI_PM_CTRL_STATE_MASK);
  }
  const msi = config.find(PCI_CAP_ID_MSI);
  if (msi !== 0) {
    const is64 = (config.read(msi + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_64BIT) !== 0;
    config.allow(msi + PCI_MSI_FLAGS, 2, 0x0071);
    config.set(msi + PCI_MSI_FLAGS, 2, config.read(msi + PCI_MSI_FLAGS, 2) & ~0x0071);
    config.allow(msi + 4, 4, 0xfffffffc);
    if (is64) config.allow(msi + 8, 4, 0xffffffff);
    config.allow(msi + (is64 ? 12 : 8), 2, 0xffff);
  }
  const msix = config.find(PCI_CAP_ID_MSIX);
  if (msix !== 0) {
    config.allow(msix + PCI_MSIX_FLAGS, 2, 0xc000);
    config.set(msix + PCI_MSIX_FLAGS, 2, config.read(msix + PCI_MSIX_FLAGS, 2) & ~0xc000);
  }
  const express = config.find(PCI_CAP_ID_EXP);
  if (express !== 0) {
    config.allow(express + PCI_EXP_DEVCTL, 2, 0x7fff);
    config.allow(express + PCI_EXP_DEVSTA, 2, 0, 0x000f);
    config.allow(express + PCI_EXP_LNKCTL, 2, 0x01c3);
  }
  const vendor = config.find(PCI_CAP_ID_VNDR);
  if (vendor !== 0) {
    for (let i = 3; i < config.read(vendor + 2, 1); i++) config.allow(vendor + i, 1, 0xff);
  }
}
