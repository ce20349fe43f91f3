/**
 * Registers of the capabilities in the first 256 bytes. Sections are of PCI Express 6.0 unless another document is
 * named.
 */
import * as regs from '../../abi/pci_regs.ts';
import type { ReadRegister } from '../capability-length.ts';
import { expressRegisters } from './express.ts';
import { plainBytes, type Register, type RegistersOf } from './register.ts';

export const STANDARD_REGISTERS: ReadonlyMap<number, RegistersOf> = new Map<number, RegistersOf>([
  [regs.PCI_CAP_ID_PM, powerManagement],
  // AGP 2.0, 6.1.11: the depth of the request queue, sideband addressing, the rate.
  [regs.PCI_CAP_ID_AGP, () => [{ offset: 8, size: 4, writable: 0xff000337 }]],
  [regs.PCI_CAP_ID_VPD, vitalProductData],
  // PCI Bridge 1.2, 3.2.6.2: the chassis number.
  [regs.PCI_CAP_ID_SLOTID, () => [{ offset: 3, size: 1, writable: 0xff, reset: 'kept' }]],
  [regs.PCI_CAP_ID_MSI, messageInterrupts],
  [regs.PCI_CAP_ID_PCIX, pciX],
  [regs.PCI_CAP_ID_VNDR, (at, read) => plainBytes(3, read(at + 2, 1))],
  // SHPC 1.0, 4.9: selects the register of the working set that the next word shows.
  [regs.PCI_CAP_ID_SHPC, () => [{ offset: 2, size: 1, writable: 0xff }]],
  [regs.PCI_CAP_ID_EXP, expressRegisters],
  // 7.7.2: enabled, and all vectors masked.
  [
    regs.PCI_CAP_ID_MSIX,
    () => [
      { offset: regs.PCI_MSIX_FLAGS, size: 2, writable: regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL },
    ],
  ],
  // Conventional PCI Advanced Features, 2: FLR is a command, and its bit never stays.
  [regs.PCI_CAP_ID_AF, () => [{ offset: regs.PCI_AF_STATUS, size: 1, status: regs.PCI_AF_STATUS_TP }]],
]);

/** 7.5.2.2. The data that Data_Select selects is unknown, so it does not change. */
function powerManagement(at: number, read: ReadRegister): Register[] {
  const canPme = (read(at + regs.PCI_PM_PMC, 2) & regs.PCI_PM_CAP_PME_MASK) !== 0;
  const writable = regs.PCI_PM_CTRL_STATE_MASK | (canPme ? regs.PCI_PM_CTRL_PME_ENABLE : 0);
  return [{ offset: regs.PCI_PM_CTRL, size: 2, writable, clearable: canPme ? regs.PCI_PM_CTRL_PME_STATUS : 0 }];
}

/** 7.9.18. */
function vitalProductData(): Register[] {
  return [
    { offset: regs.PCI_VPD_ADDR, size: 2, writable: 0xffff },
    { offset: regs.PCI_VPD_DATA, size: 4, writable: 0xffffffff, reset: 'kept' },
  ];
}

/** 7.7.1. */
function messageInterrupts(at: number, read: ReadRegister): Register[] {
  const flags = read(at + regs.PCI_MSI_FLAGS, 2);
  const is64 = (flags & regs.PCI_MSI_FLAGS_64BIT) !== 0;
  const hasLongData = (flags & PCI_MSI_FLAGS_EXT_DATA) !== 0;
  const enables = regs.PCI_MSI_FLAGS_ENABLE | regs.PCI_MSI_FLAGS_QSIZE;
  const registers: Register[] = [
    { offset: regs.PCI_MSI_FLAGS, size: 2, writable: enables | (hasLongData ? PCI_MSI_FLAGS_EXT_DATA_ENABLE : 0) },
    { offset: regs.PCI_MSI_ADDRESS_LO, size: 4, writable: 0xfffffffc },
    { offset: is64 ? regs.PCI_MSI_DATA_64 : regs.PCI_MSI_DATA_32, size: 2, writable: 0xffff },
  ];
  if (is64) registers.push({ offset: regs.PCI_MSI_ADDRESS_HI, size: 4, writable: 0xffffffff });
  if (hasLongData) {
    registers.push({ offset: (is64 ? regs.PCI_MSI_DATA_64 : regs.PCI_MSI_DATA_32) + 2, size: 2, writable: 0xffff });
  }
  if ((flags & regs.PCI_MSI_FLAGS_MASKBIT) === 0) return registers;
  const vectors = 1 << ((flags & regs.PCI_MSI_FLAGS_QMASK) >> 1);
  const bits = vectors >= 32 ? 0xffffffff : 2 ** vectors - 1;
  registers.push({ offset: is64 ? regs.PCI_MSI_MASK_64 : regs.PCI_MSI_MASK_32, size: 4, writable: bits });
  registers.push({ offset: is64 ? regs.PCI_MSI_PENDING_64 : regs.PCI_MSI_PENDING_32, size: 4, status: 0xffffffff });
  return registers;
}
const PCI_MSI_FLAGS_EXT_DATA = 0x0200;
const PCI_MSI_FLAGS_EXT_DATA_ENABLE = 0x0400;

/** PCI-X 2.0, 7.2: relaxed ordering is on after a reset. */
function pciX(): Register[] {
  return [
    { offset: 2, size: 2, writable: 0x007f, reset: 0x0002 },
    { offset: 4, size: 4, clearable: 0x200c0000 },
  ];
}
