/** Registers of the PCI Express capability (PCI Express 6.0, 7.5.3), as endpoints have them. */
import * as regs from '../../abi/pci_regs.ts';
import type { ReadRegister } from '../capability-length.ts';
import type { Register } from './register.ts';

/** Devices integrated in a root complex lack a link. */
const PCI_EXP_TYPE_RC_END = 0x9;
const PCI_EXP_TYPE_RC_EC = 0xa;

/** Relaxed ordering, no snoop, reads of 512 bytes. */
const DEVCTL_AT_RESET = regs.PCI_EXP_DEVCTL_RELAX_EN | regs.PCI_EXP_DEVCTL_NOSNOOP_EN | regs.PCI_EXP_DEVCTL_READRQ_512B;
/**
 * All bits except the reset command. Devices without extended tags or phantom functions may have writable bits for
 * them.
 */
const DEVCTL = 0x7fff;
const DEVSTA_ERRORS =
  regs.PCI_EXP_DEVSTA_CED | regs.PCI_EXP_DEVSTA_NFED | regs.PCI_EXP_DEVSTA_FED | regs.PCI_EXP_DEVSTA_URD;
const LNKCTL_ENDPOINT =
  regs.PCI_EXP_LNKCTL_ASPMC |
  regs.PCI_EXP_LNKCTL_RCB |
  regs.PCI_EXP_LNKCTL_CCC |
  regs.PCI_EXP_LNKCTL_ES |
  regs.PCI_EXP_LNKCTL_CLKREQ_EN |
  regs.PCI_EXP_LNKCTL_HAWD;
/** Completion timeouts, atomics, ID-based ordering, LTR, 10-bit tags, OBFF. Only ports have forwarding and blocking. */
const DEVCTL2_ENDPOINT = 0x775f;
/** All of Link Control 2: speed, compliance and margins. */
const LNKCTL2 = 0xffbf;
const LNKSTA2_EQUALIZATION_REQUEST = 0x0020;

export function expressRegisters(at: number, read: ReadRegister): Register[] {
  const flags = read(at + regs.PCI_EXP_FLAGS, 2);
  const type = (flags & regs.PCI_EXP_FLAGS_TYPE) >> 4;
  const hasLink = type !== PCI_EXP_TYPE_RC_END && type !== PCI_EXP_TYPE_RC_EC;
  const registers: Register[] = [
    { offset: regs.PCI_EXP_DEVCTL, size: 2, writable: DEVCTL, reset: DEVCTL_AT_RESET },
    { offset: regs.PCI_EXP_DEVSTA, size: 2, clearable: DEVSTA_ERRORS, status: regs.PCI_EXP_DEVSTA_TRPND },
  ];
  if (hasLink) registers.push({ offset: regs.PCI_EXP_LNKCTL, size: 2, writable: LNKCTL_ENDPOINT });
  if ((flags & regs.PCI_EXP_FLAGS_VERS) < 2) return registers;
  registers.push({ offset: regs.PCI_EXP_DEVCTL2, size: 2, writable: DEVCTL2_ENDPOINT });
  if (!hasLink) return registers;
  // The target speed is the highest one of the link.
  const speed = read(at + regs.PCI_EXP_LNKCAP, 4) & regs.PCI_EXP_LNKCAP_SLS;
  registers.push({ offset: regs.PCI_EXP_LNKCTL2, size: 2, writable: LNKCTL2, reset: speed });
  registers.push({ offset: regs.PCI_EXP_LNKSTA2, size: 2, clearable: LNKSTA2_EQUALIZATION_REQUEST });
  return registers;
}
