/** Writes the capabilities of a function into its config space, with the bits that software may change. */
import {
  PCI_AF_CAP,
  PCI_AF_CAP_FLR,
  PCI_AF_CAP_TP,
  PCI_AF_LENGTH,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  PCI_CAP_ID_VPD,
  PCI_CAP_VPD_SIZEOF,
  PCI_CFG_SPACE_SIZE,
  PCI_EXP_DEVCAP,
  PCI_EXP_DEVCAP_FLR,
  PCI_EXP_DEVCAP2,
  PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH,
  PCI_EXP_DEVCAP2_TPH_COMP_NONE,
  PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVSTA,
  PCI_EXP_FLAGS,
  PCI_EXT_CAP_ID_SRIOV,
  PCI_INTERRUPT_PIN,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_QSIZE,
  PCI_MSIX_FLAGS,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
  PCI_PM_CTRL,
  PCI_PM_CTRL_NO_SOFT_RESET,
  PCI_PM_CTRL_STATE_MASK,
  PCI_PM_PMC,
  PCI_VPD_ADDR,
  PCI_VPD_DATA,
} from '../abi/pci_regs.ts';
import { PCI_PM_CAP_D1, PCI_PM_CAP_D2 } from '../abi/pci_regs-cap.ts';
import { PCI_SRIOV_SUP_PGSIZE, PCI_SRIOV_SYS_PGSIZE, PCI_SRIOV_VF_DID } from '../abi/pci_regs-ext.ts';
import type { ConfigSpace } from './config-space.ts';

/** Bits 13:12 of Device Capabilities 2. */
const TPH_COMPLETER = {
  none: PCI_EXP_DEVCAP2_TPH_COMP_NONE,
  tph: PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY,
  extended: PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH,
};

/** The capabilities of a function. It lacks those that are left out. */
export interface CapabilitySpec {
  /** A level interrupt at INTA#. */
  intx?: boolean;
  /** Power management. */
  pm?: {
    /** Registers survive D3hot. */
    noSoftReset?: boolean;
    /** The function has the power state D1. */
    d1?: boolean;
    /** The function has the power state D2. */
    d2?: boolean;
  };
  /** Vital product data. */
  vpd?: {
    /** The name of the product, 1 to 255 ASCII characters. */
    name: string;
    /** Bytes that the system may write for its own tags. Default: 0. */
    writableBytes?: number;
  };
  /** Vendor-specific capabilities, each with all of its bytes. The first two are overwritten. */
  vendor?: readonly Uint8Array[];
  /** A PCI Express endpoint. */
  express?: {
    /** The function has a function level reset. */
    flr?: boolean;
    /** It takes requests with processing hints (Device Capabilities 2), `extended` with extended steering tags too. */
    tphCompleter?: 'tph' | 'extended';
  };
  /** Conventional PCI Advanced Features, with FLR and transactions pending. */
  af?: boolean;
  /** Message signalled interrupts. */
  msi?: {
    /** A power of two up to 32. */
    vectors: number;
  };
  /** MSI-X, with table and pending bits in a BAR. */
  msix?: {
    /** Entries of the table, 16 bytes each; 1 to 2048. */
    vectors: number;
    /** The index of the memory BAR that holds both. */
    bar: number;
    /** Where the table starts in the BAR, in bytes; a multiple of 8. */
    tableOffset: number;
    /** Where the pending bits start in the BAR, in bytes; a multiple of 8. */
    pbaOffset: number;
  };
  /** Single Root I/O Virtualization: the function is a physical one. */
  sriov?: {
    /** The device id of its virtual functions. */
    vfDevice: number;
  };
}

/** 4, 8, 64, 256 KiB, 1 and 4 MiB, which every physical function supports (SR-IOV 1.1, 3.3.12). */
const SRIOV_PAGE_SIZES = 0x553;

/** Adds the capabilities in the order of the specification's ids, from 0x40 on. */
export function addCapabilities(config: ConfigSpace, spec: CapabilitySpec): void {
  if (spec.intx === true) config.set(PCI_INTERRUPT_PIN, 1, 1);
  let at = 0x40;
  const place = (id: number, bytes: number): number => {
    const start = at;
    config.addCapability(id, start);
    at += (bytes + 3) & ~3;
    return start;
  };
  if (spec.pm !== undefined) {
    const pm = place(PCI_CAP_ID_PM, 8);
    const states = (spec.pm.d1 === true ? PCI_PM_CAP_D1 : 0) | (spec.pm.d2 === true ? PCI_PM_CAP_D2 : 0);
    config.set(pm + PCI_PM_PMC, 2, 3 | states);
    config.set(pm + PCI_PM_CTRL, 2, spec.pm.noSoftReset === true ? PCI_PM_CTRL_NO_SOFT_RESET : 0);
    config.allow(pm + PCI_PM_CTRL, 2, PCI_PM_CTRL_STATE_MASK);
  }
  if (spec.vpd !== undefined) {
    const vpd = place(PCI_CAP_ID_VPD, PCI_CAP_VPD_SIZEOF);
    config.allow(vpd + PCI_VPD_ADDR, 2, 0xffff);
    config.allow(vpd + PCI_VPD_DATA, 4, 0xffffffff);
  }
  if (spec.msi !== undefined) {
    const msi = place(PCI_CAP_ID_MSI, 14);
    config.set(msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_64BIT | (Math.log2(spec.msi.vectors) << 1));
    config.allow(msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
    config.allow(msi + 4, 4, 0xfffffffc);
    config.allow(msi + 8, 4, 0xffffffff);
    config.allow(msi + 12, 2, 0xffff);
  }
  for (const bytes of spec.vendor ?? []) {
    const vendor = place(PCI_CAP_ID_VNDR, bytes.length);
    for (const [i, byte] of bytes.entries()) if (i >= 2) config.set(vendor + i, 1, byte);
  }
  if (spec.express !== undefined) {
    const exp = place(PCI_CAP_ID_EXP, 0x3c);
    config.set(exp + PCI_EXP_FLAGS, 2, 2);
    config.set(exp + PCI_EXP_DEVCAP, 4, spec.express.flr === true ? PCI_EXP_DEVCAP_FLR : 0);
    config.set(exp + PCI_EXP_DEVCAP2, 4, TPH_COMPLETER[spec.express.tphCompleter ?? 'none'] << 12);
    config.set(exp + PCI_EXP_DEVCTL, 2, 0x2810);
    config.allow(exp + PCI_EXP_DEVCTL, 2, 0x7fff);
    config.allow(exp + PCI_EXP_DEVSTA, 2, 0, 0x000f);
  }
  if (spec.msix !== undefined) {
    const msix = place(PCI_CAP_ID_MSIX, 12);
    config.set(msix + PCI_MSIX_FLAGS, 2, spec.msix.vectors - 1);
    config.allow(msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    config.set(msix + PCI_MSIX_TABLE, 4, spec.msix.tableOffset | spec.msix.bar);
    config.set(msix + PCI_MSIX_PBA, 4, spec.msix.pbaOffset | spec.msix.bar);
  }
  if (spec.af === true) {
    const af = place(PCI_CAP_ID_AF, 6);
    config.set(af + PCI_AF_LENGTH, 1, 6);
    config.set(af + PCI_AF_CAP, 1, PCI_AF_CAP_FLR | PCI_AF_CAP_TP);
  }
  if (spec.sriov !== undefined) {
    config.addExtended(PCI_EXT_CAP_ID_SRIOV, 1, PCI_CFG_SPACE_SIZE);
    config.set(PCI_CFG_SPACE_SIZE + PCI_SRIOV_VF_DID, 2, spec.sriov.vfDevice);
    config.set(PCI_CFG_SPACE_SIZE + PCI_SRIOV_SUP_PGSIZE, 4, SRIOV_PAGE_SIZES);
    config.set(PCI_CFG_SPACE_SIZE + PCI_SRIOV_SYS_PGSIZE, 4, 1);
  }
}
