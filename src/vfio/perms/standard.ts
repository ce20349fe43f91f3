/**
 * The capabilities of the first 256 bytes, as Linux 7.3's vfio treats them. All other ids are hidden: NULL, SLOTID,
 * CHSWP, DBG, CCRC, SHPC, SSVID, AGP3, SECDEV, EA, and all newer ones.
 */
import * as regs from '../../abi/pci_regs.ts';
import type { PciPowerState } from '../../pci/power-state.ts';
import { covers, setsBits } from '../../pci/register-write.ts';
import type { Task } from '../../task/op.ts';
import { ALL, type CapabilityRegisters, type CapabilityRule, type UserConfig, writeRaw } from './perm-bits.ts';

/** vfio sets the state, and revokes the memory before it stops answering. PME belongs to the host. */
const PME = regs.PCI_PM_CTRL_PME_ENABLE | regs.PCI_PM_CTRL_PME_STATUS;
const powerManagement: CapabilityRule = {
  length: regs.PCI_PM_SIZEOF,
  declare: (declare) => {
    declare.field(regs.PCI_PM_PMC, 2, regs.PCI_PM_CAP_PME_MASK, 0);
    declare.clear(regs.PCI_PM_PMC, 2, regs.PCI_PM_CAP_PME_MASK);
    declare.field(regs.PCI_PM_CTRL, 4, PME, ~(PME | regs.PCI_PM_CTRL_STATE_MASK));
    declare.clear(regs.PCI_PM_CTRL, 2, PME);
  },
  write: (config, write, start) => {
    if (write.offset !== start + regs.PCI_PM_CTRL) return config.writeDefault(write);
    const state = (write.value & regs.PCI_PM_CTRL_STATE_MASK) as PciPowerState;
    return config.vdev.setPowerState({ state, otherBits: { ...write, ...config.hardwareBits(write) } });
  },
};

/**
 * Vital product data, by address and flag: vfio reads or writes the device's data, and then flips the flag. If the
 * device does not answer, the flag stays as written.
 */
const vitalProductData: CapabilityRule = {
  length: regs.PCI_CAP_VPD_SIZEOF,
  declare: (declare) => {
    declare.field(regs.PCI_VPD_ADDR, 2, ALL, ALL);
    declare.field(regs.PCI_VPD_DATA, 4, ALL, ALL);
  },
  *write(config, write, start) {
    yield* config.writeDefault(write);
    if (!covers(write, start + regs.PCI_VPD_ADDR + 1)) return;
    const { vpd } = config.vdev.pdev;
    const address = config.getCopy(start + regs.PCI_VPD_ADDR, 2);
    if ((address & regs.PCI_VPD_ADDR_F) !== 0) {
      const data = config.getCopy(start + regs.PCI_VPD_DATA, 4);
      if (vpd?.write(address & regs.PCI_VPD_ADDR_MASK, data) !== true) return;
    } else {
      const data = vpd?.read(address) ?? null;
      if (data === null) return;
      config.setCopy(start + regs.PCI_VPD_DATA, 4, data);
    }
    config.setCopy(start + regs.PCI_VPD_ADDR, 2, address ^ regs.PCI_VPD_ADDR_F);
  },
};

function has(registers: CapabilityRegisters, offset: number, bit: number): boolean {
  return (registers.read(offset, 2) & bit) !== 0;
}

/**
 * 10 bytes, 4 more with a 64-bit address, 10 more with masks and pending bits. All except these two are the user's
 * copy, since the user's vectors are eventfds.
 */
const msi: CapabilityRule = {
  length: (registers) => {
    const is64 = has(registers, regs.PCI_MSI_FLAGS, regs.PCI_MSI_FLAGS_64BIT);
    return 10 + (is64 ? 4 : 0) + (has(registers, regs.PCI_MSI_FLAGS, regs.PCI_MSI_FLAGS_MASKBIT) ? 10 : 0);
  },
  declare: (declare, registers) => {
    const is64 = has(registers, regs.PCI_MSI_FLAGS, regs.PCI_MSI_FLAGS_64BIT);
    declare.field(regs.PCI_MSI_FLAGS, 1, ALL, ALL);
    declare.field(regs.PCI_MSI_ADDRESS_LO, 4, ALL, ALL);
    if (is64) declare.field(regs.PCI_MSI_ADDRESS_HI, 4, ALL, ALL);
    declare.field(is64 ? regs.PCI_MSI_DATA_64 : regs.PCI_MSI_DATA_32, 2, ALL, ALL);
    if (!has(registers, regs.PCI_MSI_FLAGS, regs.PCI_MSI_FLAGS_MASKBIT)) return;
    declare.field(is64 ? regs.PCI_MSI_MASK_64 : regs.PCI_MSI_MASK_32, 4, 0, ALL);
    declare.field(is64 ? regs.PCI_MSI_PENDING_64 : regs.PCI_MSI_PENDING_32, 4, 0, ALL);
  },
  /** Only SET_IRQS switches MSI on. A write never enables more vectors than SET_IRQS last asked for. */
  *write(config, write, start) {
    yield* config.writeDefault(write);
    const at = start + regs.PCI_MSI_FLAGS;
    if (write.offset > at || write.offset + write.size < at) return;
    const { isMsiActive, msiQmax } = config.vdev.interrupts;
    let flags = config.getCopy(at, 2);
    if (!isMsiActive) flags &= ~regs.PCI_MSI_FLAGS_ENABLE;
    if ((flags & regs.PCI_MSI_FLAGS_QSIZE) >> 4 > msiQmax) {
      flags = (flags & ~regs.PCI_MSI_FLAGS_QSIZE) | (msiQmax << 4);
    }
    config.setCopy(at, 2, flags);
    yield* config.vdev.pdev.configWrite(at, 2, flags);
  },
};

const pcix: CapabilityRule = {
  length: (registers) =>
    (registers.read(regs.PCI_X_CMD, 2) & 0x3000) === 0 ? regs.PCI_CAP_PCIX_SIZEOF_V0 : regs.PCI_CAP_PCIX_SIZEOF_V2,
  declare: (declare, registers) => {
    declare.field(regs.PCI_X_CMD, 2, 0, ALL);
    if ((registers.read(regs.PCI_X_CMD, 2) & 0x3000) !== 0) declare.field(regs.PCI_X_ECC_CSR, 4, 0, ALL);
  },
};

const hyperTransport: CapabilityRule = {
  length: (registers) =>
    (registers.read(3, 1) & regs.HT_3BIT_CAP_MASK) !== 0 ? regs.HT_CAP_SIZEOF_SHORT : regs.HT_CAP_SIZEOF_LONG,
};

const sata: CapabilityRule = {
  length: (registers) =>
    (registers.read(regs.PCI_SATA_REGS, 1) & regs.PCI_SATA_REGS_MASK) === regs.PCI_SATA_REGS_INLINE
      ? regs.PCI_SATA_SIZEOF_LONG
      : regs.PCI_SATA_SIZEOF_SHORT,
};

function expressLength(registers: CapabilityRegisters): number {
  const flags = registers.read(regs.PCI_EXP_FLAGS, 2);
  const hasLink = (flags & regs.PCI_EXP_FLAGS_TYPE) >> 4 !== regs.PCI_EXP_TYPE_RC_END;
  if ((flags & regs.PCI_EXP_FLAGS_VERS) === 1) {
    return hasLink ? regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 : regs.PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V1;
  }
  return hasLink ? regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V2 : regs.PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2;
}

/**
 * The largest payload is fixed for the whole tree, so the user's is a copy. Phantom functions and ARI are fixed too.
 */
const express: CapabilityRule = {
  length: expressLength,
  declare: (declare, registers) => {
    const copied = regs.PCI_EXP_DEVCTL_BCR_FLR | regs.PCI_EXP_DEVCTL_PAYLOAD | regs.PCI_EXP_DEVCTL_READRQ;
    // "Initiate FLR" is an order and is never stored: only the written value shows it.
    declare.field(regs.PCI_EXP_DEVCTL, 2, copied, ~(regs.PCI_EXP_DEVCTL_PHANTOM | regs.PCI_EXP_DEVCTL_BCR_FLR));
    if (expressLength(registers) > regs.PCI_EXP_DEVCTL2) {
      declare.field(regs.PCI_EXP_DEVCTL2, 2, 0, ~regs.PCI_EXP_DEVCTL2_ARI);
    }
  },
  *write(config, write, start) {
    const at = start + regs.PCI_EXP_DEVCTL;
    const before = config.getCopy(at, 2) & regs.PCI_EXP_DEVCTL_READRQ;
    yield* config.writeDefault(write);
    if (setsBits(write, at, regs.PCI_EXP_DEVCTL_BCR_FLR)) {
      const devcap = config.vdev.pdev.configRead(start + regs.PCI_EXP_DEVCAP, 4);
      if ((devcap & regs.PCI_EXP_DEVCAP_FLR) !== 0) yield* config.vdev.functionLevelReset();
    }
    const after = config.getCopy(at, 2) & regs.PCI_EXP_DEVCTL_READRQ;
    if (after !== before) yield* setReadRequest(config, at, after >> 12);
  },
};

/** The hardware gets the user's maximum read request, but at least the size of its payload. Two values are reserved. */
function* setReadRequest({ vdev }: UserConfig, at: number, wanted: number): Task {
  const payload = (vdev.pdev.configRead(at, 2) & regs.PCI_EXP_DEVCTL_PAYLOAD) >> 5;
  const value = Math.max(wanted, payload);
  if (value <= 5) yield* vdev.pdev.configModify(at, 2, regs.PCI_EXP_DEVCTL_READRQ, value << 12);
}

const advancedFeatures: CapabilityRule = {
  length: regs.PCI_CAP_AF_SIZEOF,
  declare: (declare) => declare.field(regs.PCI_AF_CTRL, 1, regs.PCI_AF_CTRL_FLR, 0),
  *write(config, write, start) {
    yield* config.writeDefault(write);
    if (!setsBits(write, start + regs.PCI_AF_CTRL, regs.PCI_AF_CTRL_FLR)) return;
    const needed = regs.PCI_AF_CAP_FLR | regs.PCI_AF_CAP_TP;
    const capable = config.vdev.pdev.configRead(start + regs.PCI_AF_CAP, 1) & needed;
    if (capable === needed) yield* config.vdev.functionLevelReset();
  },
};

export const STANDARD_CAPABILITIES: ReadonlyMap<number, CapabilityRule> = new Map([
  [regs.PCI_CAP_ID_PM, powerManagement],
  [regs.PCI_CAP_ID_AGP, { length: regs.PCI_AGP_SIZEOF }],
  [regs.PCI_CAP_ID_VPD, vitalProductData],
  [regs.PCI_CAP_ID_MSI, msi],
  [regs.PCI_CAP_ID_PCIX, pcix],
  [regs.PCI_CAP_ID_HT, hyperTransport],
  [regs.PCI_CAP_ID_VNDR, { length: (registers) => registers.read(2, 1), write: writeRaw }],
  [regs.PCI_CAP_ID_EXP, express],
  // Only SET_IRQS enables and masks.
  [regs.PCI_CAP_ID_MSIX, { length: regs.PCI_CAP_MSIX_SIZEOF }],
  [regs.PCI_CAP_ID_SATA, sata],
  [regs.PCI_CAP_ID_AF, advancedFeatures],
]);
