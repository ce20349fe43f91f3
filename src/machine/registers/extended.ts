/** Registers of the extended capabilities in endpoints. Sections are of PCI Express 6.0. */
import * as regs from '../../abi/pci_regs.ts';
import { extendedLength, type ReadRegister } from '../capability-length.ts';
import { plainBytes, type Register, type RegistersOf, words } from './register.ts';

export const EXTENDED_REGISTERS: ReadonlyMap<number, RegistersOf> = new Map<number, RegistersOf>([
  [regs.PCI_EXT_CAP_ID_ERR, advancedErrorReporting],
  [regs.PCI_EXT_CAP_ID_VC, virtualChannels],
  [regs.PCI_EXT_CAP_ID_VC9, virtualChannels],
  // 7.9.6.3: the selector of the data.
  [regs.PCI_EXT_CAP_ID_PWR, () => [{ offset: 4, size: 1, writable: 0xff }]],
  [regs.PCI_EXT_CAP_ID_VNDR, (at, read) => plainBytes(8, read(at + 4, 4) >>> 20)],
  [regs.PCI_EXT_CAP_ID_ACS, accessControl],
  [regs.PCI_EXT_CAP_ID_ARI, alternativeRouting],
  // 10.5.1.3: smallest translation unit, enable.
  [regs.PCI_EXT_CAP_ID_ATS, () => [{ offset: regs.PCI_ATS_CTRL, size: 2, writable: 0x801f }]],
  [regs.PCI_EXT_CAP_ID_SRIOV, singleRootVirtualization],
  [regs.PCI_EXT_CAP_ID_MCAST, multicast],
  [regs.PCI_EXT_CAP_ID_PRI, pageRequests],
  // 7.9.12.4: the substate.
  [regs.PCI_EXT_CAP_ID_DPA, () => [{ offset: 0x0e, size: 2, writable: 0x001f }]],
  [regs.PCI_EXT_CAP_ID_TPH, steeringTags],
  // 7.8.2: the latencies that the device may report.
  [
    regs.PCI_EXT_CAP_ID_LTR,
    () => [
      { offset: regs.PCI_LTR_MAX_SNOOP_LAT, size: 2, writable: LTR_LATENCY },
      { offset: regs.PCI_LTR_MAX_NOSNOOP_LAT, size: 2, writable: LTR_LATENCY },
    ],
  ],
  // 7.7.3.3: lanes that had errors.
  [regs.PCI_EXT_CAP_ID_SECPCI, () => [{ offset: 8, size: 4, clearable: 0xffffffff }]],
  [regs.PCI_EXT_CAP_ID_PASID, processIds],
  // 7.8.3.3 and 7.8.3.4: substates, thresholds; the power-on time is 10 us after a reset.
  [
    regs.PCI_EXT_CAP_ID_L1SS,
    () => [
      { offset: 8, size: 4, writable: 0xe3ff000f },
      { offset: 0x0c, size: 4, writable: 0x000000fb, reset: 0x00000028 },
    ],
  ],
  // 7.9.15.3: enable, and the granularity of time.
  [regs.PCI_EXT_CAP_ID_PTM, () => [{ offset: 8, size: 4, writable: 0x0000ff01 }]],
  [regs.PCI_EXT_CAP_ID_DVSEC, (at, read) => plainBytes(0x0a, read(at + 4, 4) >>> 20)],
  // 7.9.24.3: interrupts. "Go" and "abort" are commands, and nothing here carries them out.
  [regs.PCI_EXT_CAP_ID_DOE, () => [{ offset: 8, size: 4, writable: 0x00000002 }]],
]);

const LTR_LATENCY = regs.PCI_LTR_VALUE_MASK | regs.PCI_LTR_SCALE_MASK;

/**
 * 7.8.4. Bits of errors that a device does not know are read-only in hardware, and storage here. Internal errors are
 * masked after a reset where a device has them. Here they are not, because nothing raises them.
 */
function advancedErrorReporting(at: number, read: ReadRegister): Register[] {
  const uncorrectable = 0x07fff030;
  const correctable = 0x0000f1c1;
  const capability = read(at + regs.PCI_ERR_CAP, 4);
  // Each enable bit is one above its capability bit: ECRC generation, ECRC check, several headers.
  const enables = (capability & 0x02a0) << 1;
  return [
    { offset: regs.PCI_ERR_UNCOR_STATUS, size: 4, clearable: uncorrectable },
    { offset: regs.PCI_ERR_UNCOR_MASK, size: 4, writable: uncorrectable },
    { offset: regs.PCI_ERR_UNCOR_SEVER, size: 4, writable: uncorrectable, reset: 0x00462030 },
    { offset: regs.PCI_ERR_COR_STATUS, size: 4, clearable: correctable },
    { offset: regs.PCI_ERR_COR_MASK, size: 4, writable: correctable, reset: regs.PCI_ERR_COR_ADV_NFAT },
    { offset: regs.PCI_ERR_CAP, size: 4, writable: enables, status: 0x0000001f },
    ...words(regs.PCI_ERR_HEADER_LOG, 4, { status: 0xffffffff }),
    ...words(0x38, 4, { status: 0xffffffff }),
  ];
}

/** 7.9.1. Channel 0 is always on, and has traffic class 0; after a reset it has all classes. */
function virtualChannels(at: number, read: ReadRegister): Register[] {
  const others = read(at + 4, 4) & 7;
  const channels = Array.from({ length: others }, (_, i): Register => {
    return { offset: 0x14 + 0x0c * (i + 1), size: 4, writable: 0x870e00fe };
  });
  return [
    { offset: 0x0c, size: 2, writable: 0x000e },
    { offset: 0x14, size: 4, writable: 0x000e00fe, reset: 0x000000fe },
    ...channels,
  ];
}

/** 7.7.11: the device's capability bits are the bits that can be enabled. */
function accessControl(at: number, read: ReadRegister): Register[] {
  const vectorWords = (extendedLength(regs.PCI_EXT_CAP_ID_ACS, at, read).full - regs.PCI_ACS_EGRESS_CTL_V) / 4;
  return [
    { offset: regs.PCI_ACS_CTRL, size: 2, writable: read(at + regs.PCI_ACS_CAP, 2) & 0x007f },
    ...words(regs.PCI_ACS_EGRESS_CTL_V, vectorWords, { writable: 0xffffffff }),
  ];
}

/** 7.8.8: function groups, where the device has them. */
function alternativeRouting(at: number, read: ReadRegister): Register[] {
  const groups = read(at + regs.PCI_ARI_CAP, 2) & (regs.PCI_ARI_CAP_MFVC | regs.PCI_ARI_CAP_ACS);
  return [{ offset: regs.PCI_ARI_CTRL, size: 2, writable: groups === 0 ? 0 : groups | 0x0070 }];
}

/** 9.3.3. After a reset virtual functions are off, and pages have 4 KiB. The sizes of their BARs are unknown. */
function singleRootVirtualization(): Register[] {
  const enables =
    regs.PCI_SRIOV_CTRL_VFE | regs.PCI_SRIOV_CTRL_VFM | regs.PCI_SRIOV_CTRL_INTR | regs.PCI_SRIOV_CTRL_MSE;
  return [
    { offset: regs.PCI_SRIOV_CTRL, size: 2, writable: enables | regs.PCI_SRIOV_CTRL_ARI },
    { offset: regs.PCI_SRIOV_STATUS, size: 2, clearable: regs.PCI_SRIOV_STATUS_VFM },
    { offset: regs.PCI_SRIOV_NUM_VF, size: 2, writable: 0xffff },
    { offset: regs.PCI_SRIOV_SYS_PGSIZE, size: 4, writable: 0xffffffff, reset: 1 },
    ...words(regs.PCI_SRIOV_BAR, regs.PCI_SRIOV_NUM_BARS, { status: 0xfffffff0 }),
  ];
}

/** 7.9.11: groups, their address, and the groups to receive and to block. */
function multicast(): Register[] {
  return [
    { offset: 6, size: 2, writable: 0x803f },
    { offset: 8, size: 4, writable: 0xfffff03f },
    { offset: 0x0c, size: 4, writable: 0xffffffff },
    ...words(0x10, 6, { writable: 0xffffffff }),
  ];
}

/** 10.5.2. */
function pageRequests(): Register[] {
  return [
    { offset: regs.PCI_PRI_CTRL, size: 2, writable: regs.PCI_PRI_CTRL_ENABLE },
    { offset: regs.PCI_PRI_STATUS, size: 2, clearable: regs.PCI_PRI_STATUS_RF | regs.PCI_PRI_STATUS_UPRGI },
    { offset: regs.PCI_PRI_ALLOC_REQ, size: 4, writable: 0xffffffff },
  ];
}

/** 7.9.13: the mode, the enable bits, and the table where the capability contains it. */
function steeringTags(at: number, read: ReadRegister): Register[] {
  const tableWords = (extendedLength(regs.PCI_EXT_CAP_ID_TPH, at, read).full - 0x0c) / 4;
  return [{ offset: 8, size: 4, writable: 0x00000307 }, ...words(0x0c, tableWords, { writable: 0xffffffff })];
}

/** 7.8.9: enable, and the rights that the device supports. */
function processIds(at: number, read: ReadRegister): Register[] {
  const rights = read(at + regs.PCI_PASID_CAP, 2) & (regs.PCI_PASID_CAP_EXEC | regs.PCI_PASID_CAP_PRIV);
  return [{ offset: regs.PCI_PASID_CTRL, size: 2, writable: regs.PCI_PASID_CTRL_ENABLE | rights }];
}
