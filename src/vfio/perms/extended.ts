/**
 * The extended capabilities, as Linux 7.3's vfio treats them. All other ids are hidden: those of root complexes, MRIOV,
 * SECPCI, PMUX, PASID, DPC, L1SS, PTM, DOE and all whose length Linux does not know.
 */
import * as regs from '../../abi/pci_regs.ts';
import { type CapabilityRegisters, type CapabilityRule, writeRaw } from './perm-bits.ts';

/** VC, MFVC: the registers of each channel, then a table of arbitration phases at a multiple of 16. */
function channelsLength(registers: CapabilityRegisters): number {
  const extra = registers.read(regs.PCI_VC_PORT_CAP1, 4) & regs.PCI_VC_CAP1_EVCC;
  const channels = regs.PCI_CAP_VC_BASE_SIZEOF + (1 + extra) * regs.PCI_CAP_VC_PER_VC_SIZEOF;
  const capable = registers.read(regs.PCI_VC_PORT_CAP2, 4);
  const phases =
    [
      { bit: regs.PCI_VC_CAP2_128_PHASE, count: 128 },
      { bit: regs.PCI_VC_CAP2_64_PHASE, count: 64 },
      { bit: regs.PCI_VC_CAP2_32_PHASE, count: 32 },
    ].find(({ bit }) => (capable & bit) !== 0)?.count ?? 0;
  // Four bits for each phase.
  return phases === 0 ? channels : Math.ceil(channels / 16) * 16 + phases / 2;
}

/** With egress control, a bit for each port or function, in whole dwords. A count of 0 means 256. */
function acsLength(registers: CapabilityRegisters): number {
  if ((registers.read(regs.PCI_ACS_CAP, 1) & regs.PCI_ACS_EC) === 0) return 8;
  const bits = registers.read(regs.PCI_ACS_EGRESS_BITS, 1);
  return 8 + (bits === 0 ? 256 : Math.ceil(bits / 32) * 32) / 8;
}

function resizableBarLength(registers: CapabilityRegisters): number {
  const bars = registers.read(regs.PCI_REBAR_CTRL, 1) & regs.PCI_REBAR_CTRL_NBAR_MASK;
  return 4 + (bars >> regs.PCI_REBAR_CTRL_NBAR_SHIFT) * 8;
}

/** The register holds the number of substates minus one; each substate has a byte. */
function powerAllocationLength(registers: CapabilityRegisters): number {
  return regs.PCI_DPA_BASE_SIZEOF + (registers.read(regs.PCI_DPA_CAP, 1) & regs.PCI_DPA_CAP_SUBSTATE_MASK) + 1;
}

/** The capability may hold steering tags: the register has their number minus one. */
function hintsLength(registers: CapabilityRegisters): number {
  const capable = registers.read(regs.PCI_TPH_CAP, 4);
  if ((capable & regs.PCI_TPH_CAP_LOC_MASK) !== regs.PCI_TPH_LOC_CAP) return regs.PCI_TPH_BASE_SIZEOF;
  const tags = ((capable & regs.PCI_TPH_CAP_ST_MASK) >> regs.PCI_TPH_CAP_ST_SHIFT) + 1;
  return regs.PCI_TPH_BASE_SIZEOF + 2 * tags;
}

const UNCORRECTABLE =
  regs.PCI_ERR_UNC_UND |
  regs.PCI_ERR_UNC_DLP |
  regs.PCI_ERR_UNC_SURPDN |
  regs.PCI_ERR_UNC_POISON_TLP |
  regs.PCI_ERR_UNC_FCP |
  regs.PCI_ERR_UNC_COMP_TIME |
  regs.PCI_ERR_UNC_COMP_ABORT |
  regs.PCI_ERR_UNC_UNX_COMP |
  regs.PCI_ERR_UNC_RX_OVER |
  regs.PCI_ERR_UNC_MALF_TLP |
  regs.PCI_ERR_UNC_ECRC |
  regs.PCI_ERR_UNC_UNSUP |
  regs.PCI_ERR_UNC_ACSV |
  regs.PCI_ERR_UNC_INTN |
  regs.PCI_ERR_UNC_MCBTLP |
  regs.PCI_ERR_UNC_ATOMEG |
  regs.PCI_ERR_UNC_TLPPRE;
const CORRECTABLE =
  regs.PCI_ERR_COR_RCVR |
  regs.PCI_ERR_COR_BAD_TLP |
  regs.PCI_ERR_COR_BAD_DLLP |
  regs.PCI_ERR_COR_REP_ROLL |
  regs.PCI_ERR_COR_REP_TIMER |
  regs.PCI_ERR_COR_ADV_NFAT |
  regs.PCI_ERR_COR_INTERNAL |
  regs.PCI_ERR_COR_LOG_OVER;

/** Writing ones clears status bits, as in the hardware. Masks and severities are the user's copy. */
const errorReporting: CapabilityRule = {
  length: regs.PCI_ERR_ROOT_COMMAND,
  declare: (declare) => {
    declare.field(regs.PCI_ERR_UNCOR_STATUS, 4, 0, UNCORRECTABLE);
    declare.field(regs.PCI_ERR_UNCOR_MASK, 4, 0, UNCORRECTABLE);
    declare.field(regs.PCI_ERR_UNCOR_SEVER, 4, 0, UNCORRECTABLE);
    declare.field(regs.PCI_ERR_COR_STATUS, 4, 0, CORRECTABLE);
    declare.field(regs.PCI_ERR_COR_MASK, 4, 0, CORRECTABLE);
    declare.field(regs.PCI_ERR_CAP, 4, 0, regs.PCI_ERR_CAP_ECRC_GENE | regs.PCI_ERR_CAP_ECRC_CHKE);
  },
};

/** As in Linux, users may write the data register, which is read-only in hardware, and not the selector beside it. */
const powerBudgeting: CapabilityRule = {
  length: regs.PCI_EXT_CAP_PWR_SIZEOF,
  declare: (declare) => declare.field(regs.PCI_PWR_DATA, 1, 0, 0xff),
};

/** Both kinds of vendor-specific registers have their length in bits 20 to 31 of the dword after the header. */
const vendorSpecific: CapabilityRule = {
  length: (registers) => registers.read(regs.PCI_VNDR_HEADER, 4) >>> 20,
  write: writeRaw,
};

export const EXTENDED_CAPABILITIES: ReadonlyMap<number, CapabilityRule> = new Map([
  [regs.PCI_EXT_CAP_ID_ERR, errorReporting],
  [regs.PCI_EXT_CAP_ID_VC, { length: channelsLength }],
  [regs.PCI_EXT_CAP_ID_DSN, { length: regs.PCI_EXT_CAP_DSN_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_PWR, powerBudgeting],
  [regs.PCI_EXT_CAP_ID_MFVC, { length: channelsLength }],
  [regs.PCI_EXT_CAP_ID_VC9, { length: channelsLength }],
  [regs.PCI_EXT_CAP_ID_VNDR, vendorSpecific],
  [regs.PCI_EXT_CAP_ID_ACS, { length: acsLength }],
  [regs.PCI_EXT_CAP_ID_ARI, { length: regs.PCI_EXT_CAP_ARI_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_ATS, { length: regs.PCI_EXT_CAP_ATS_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_SRIOV, { length: regs.PCI_EXT_CAP_SRIOV_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_MCAST, { length: regs.PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_PRI, { length: regs.PCI_EXT_CAP_PRI_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_REBAR, { length: resizableBarLength }],
  [regs.PCI_EXT_CAP_ID_DPA, { length: powerAllocationLength }],
  [regs.PCI_EXT_CAP_ID_TPH, { length: hintsLength }],
  [regs.PCI_EXT_CAP_ID_LTR, { length: regs.PCI_EXT_CAP_LTR_SIZEOF }],
  [regs.PCI_EXT_CAP_ID_DVSEC, vendorSpecific],
]);
