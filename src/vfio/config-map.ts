/**
 * Which byte of config space belongs to which capability, and which of its bits a user sees virtualised or may write
 * (the perm_bits tables of vfio_pci_config.c). Pure layout: config.ts acts on it.
 */
import {
  PCI_AF_CTRL,
  PCI_AF_CTRL_FLR,
  PCI_BASE_ADDRESS_0,
  PCI_BIST,
  PCI_CACHE_LINE_SIZE,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_EXP,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PCIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_VNDR,
  PCI_CAP_ID_VPD,
  PCI_CAPABILITY_LIST,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_EXP_DEVCTL,
  PCI_EXP_DEVCTL_BCR_FLR,
  PCI_EXP_DEVCTL_PAYLOAD,
  PCI_EXP_DEVCTL_READRQ,
  PCI_EXP_DEVCTL2,
  PCI_EXP_DEVCTL2_ARI,
  PCI_EXP_FLAGS,
  PCI_EXP_FLAGS_VERS,
  PCI_EXT_CAP_ID_DVSEC,
  PCI_EXT_CAP_ID_VNDR,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_LATENCY_TIMER,
  PCI_MSI_ADDRESS_LO,
  PCI_MSI_FLAGS,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_PM_CAP_PME_MASK,
  PCI_PM_CTRL,
  PCI_PM_CTRL_PME_ENABLE,
  PCI_PM_CTRL_PME_STATUS,
  PCI_PM_CTRL_STATE_MASK,
  PCI_PM_PMC,
  PCI_ROM_ADDRESS,
  PCI_VENDOR_ID,
} from '../abi/pci_regs.ts';
import type { ConfigSpace } from '../pci/config-space.ts';

const STD_HEADER_BYTES = 64;
const EXT_BASE = 0x100;

/** Bytes in no capability: the user reads and writes the hardware's. */
export const OWNER_NONE = -1;
export const OWNER_HEADER = -2;
/** Hidden, but its place in the chain is kept: the user's copy only. */
export const OWNER_VIRTUAL = -3;

/** A capability that users see. Extended ids are offset so that they never equal a standard one. */
export interface VisibleCapability {
  /** Standard id, or EXT_ID + extended id. */
  id: number;
  start: number;
  length: number;
}
const EXT_ID = 0x10000;

/**
 * Capabilities a user must not see, by their standard ids: NULL, SLOTID, CHSWP, DBG, CCRC, SHPC, SSVID, AGP3, SECDEV,
 * EA.
 */
const HIDDEN_STD = new Set([0x00, 0x04, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14]);
/**
 * Extended: NULL, link and virtual channel declarations, root complex, multicast and all others with no known length.
 */
const EXT_LENGTHS = new Map<number, number>([
  [0x01, 0x48],
  [0x02, 0x10],
  [0x03, 0x0c],
  [0x04, 0x10],
  [0x09, 0x10],
  [0x0d, 0x08],
  [0x0e, 0x08],
  [0x0f, 0x08],
  [0x10, 0x40],
  [0x12, 0x30],
  [0x13, 0x10],
  [0x17, 0x0c],
  [0x18, 0x08],
  [0x1b, 0x08],
]);

/** Those that were made last. Functions of a kind share one: it is four times as large as their registers. */
const KNOWN: { bytes: Uint8Array; map: ConfigMap }[] = [];
const MAX_KNOWN = 32;

/** The map of a config space as it is now, `bytes` being all that is in it. Nobody may change the map. */
export function configMapOf(config: ConfigSpace, bytes: Uint8Array): ConfigMap {
  const known = KNOWN.find((one) => Buffer.compare(one.bytes, bytes) === 0);
  if (known !== undefined) return known.map;
  const map = new ConfigMap(config);
  if (KNOWN.length === MAX_KNOWN) KNOWN.shift();
  KNOWN.push({ bytes: bytes.slice(), map });
  return map;
}

export class ConfigMap {
  readonly owner: Int32Array;
  /** Bits that come from the user's copy. */
  readonly virt: Uint8Array;
  /** Bits that the user may change: in the copy where `virt` is set, else in the hardware. */
  readonly writable: Uint8Array;
  readonly capabilities: VisibleCapability[] = [];
  /** Values that differ from the hardware's in the user's copy: chains without the hidden, ids that are blanked. */
  readonly patches: { offset: number; size: 1 | 2 | 4; value: number }[] = [];
  private readonly config: ConfigSpace;

  constructor(config: ConfigSpace) {
    this.config = config;
    this.owner = new Int32Array(config.sizeBytes).fill(OWNER_NONE);
    this.virt = new Uint8Array(config.sizeBytes);
    this.writable = new Uint8Array(config.sizeBytes);
    this.mapHeader();
    this.mapStandardChain();
    if (config.sizeBytes > EXT_BASE) this.mapExtendedChain();
  }

  find(id: number): VisibleCapability | undefined {
    return this.capabilities.find((capability) => capability.id === id);
  }

  /** Sets `bytes` bytes from `offset`: which bits are the copy's, which may be written. */
  private set(offset: number, bytes: number, virt: number, writable: number): void {
    for (let i = 0; i < bytes; i++) {
      this.virt[offset + i] = (virt >>> (8 * i)) & 0xff;
      this.writable[offset + i] = (writable >>> (8 * i)) & 0xff;
    }
  }

  private mapHeader(): void {
    this.owner.fill(OWNER_HEADER, 0, STD_HEADER_BYTES);
    this.set(PCI_VENDOR_ID, 4, ALL, 0);
    this.set(PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, ALL);
    this.set(PCI_CACHE_LINE_SIZE, 1, 0, ALL);
    this.set(PCI_LATENCY_TIMER, 1, 0, ALL);
    this.set(PCI_BIST, 1, 0, ALL);
    for (let i = 0; i < 6; i++) this.set(PCI_BASE_ADDRESS_0 + 4 * i, 4, ALL, ALL);
    this.set(PCI_ROM_ADDRESS, 4, ALL, ALL);
    this.set(PCI_CAPABILITY_LIST, 1, ALL, 0);
    this.set(PCI_INTERRUPT_LINE, 1, ALL, ALL);
    this.set(PCI_INTERRUPT_PIN, 1, ALL, 0);
  }

  private mapStandardChain(): void {
    let pointer = PCI_CAPABILITY_LIST;
    const seen = new Set<number>();
    for (let pos = this.config.read(pointer, 1) & ~3; pos >= STD_HEADER_BYTES && !seen.has(pos); ) {
      seen.add(pos);
      const id = this.config.read(pos, 1);
      const next = this.config.read(pos + 1, 1) & ~3;
      const length = this.standardLength(id, pos);
      if (HIDDEN_STD.has(id) || length === 0) {
        this.patches.push({ offset: pointer, size: 1, value: next });
      } else {
        this.claim(id, pos, length);
        this.set(pos, 2, ALL, 0);
        this.setStandard(id, pos);
        pointer = pos + 1;
      }
      pos = next;
    }
  }

  private claim(id: number, start: number, length: number): void {
    const end = Math.min(start + length, start < EXT_BASE ? EXT_BASE : this.config.sizeBytes);
    this.capabilities.push({ id, start, length: end - start });
    this.owner.fill(id, start, end);
  }

  /** Bytes of a standard capability, from the specification that defines it; 0 for one that is unknown. */
  private standardLength(id: number, pos: number): number {
    switch (id) {
      case PCI_CAP_ID_PM:
      case PCI_CAP_ID_VPD:
      case PCI_CAP_ID_PCIX:
        return 8;
      case PCI_CAP_ID_MSI: {
        const flags = this.config.read(pos + PCI_MSI_FLAGS, 2);
        return 10 + ((flags & PCI_MSI_FLAGS_64BIT) !== 0 ? 4 : 0) + ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0 ? 10 : 0);
      }
      case PCI_CAP_ID_MSIX:
        return 12;
      case PCI_CAP_ID_AF:
        return 6;
      case PCI_CAP_ID_VNDR:
        return this.config.read(pos + 2, 1);
      case PCI_CAP_ID_EXP:
        return (this.config.read(pos + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_VERS) === 1 ? 0x14 : 0x3c;
      case 0x02:
      case 0x03:
      case 0x08:
      case 0x12:
      case 0x10:
        return 8;
      default:
        return 0;
    }
  }

  private setStandard(id: number, pos: number): void {
    switch (id) {
      case PCI_CAP_ID_PM: {
        const trapped = PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS | PCI_PM_CTRL_STATE_MASK;
        this.set(pos + PCI_PM_PMC, 2, PCI_PM_CAP_PME_MASK, 0);
        this.set(pos + PCI_PM_CTRL, 4, PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS, ~trapped);
        const pmc = this.config.read(pos + PCI_PM_PMC, 2);
        this.patches.push({ offset: pos + PCI_PM_PMC, size: 2, value: pmc & ~PCI_PM_CAP_PME_MASK });
        break;
      }
      case PCI_CAP_ID_EXP: {
        const emulated = PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ;
        // The bit orders a reset and never stays.
        this.set(pos + PCI_EXP_DEVCTL, 2, emulated, ~PCI_EXP_DEVCTL_BCR_FLR);
        const version = this.config.read(pos + PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_VERS;
        if (version > 1) this.set(pos + PCI_EXP_DEVCTL2, 2, 0, ~PCI_EXP_DEVCTL2_ARI);
        break;
      }
      case PCI_CAP_ID_AF:
        this.set(pos + PCI_AF_CTRL, 1, PCI_AF_CTRL_FLR, 0);
        break;
      case PCI_CAP_ID_MSI:
        this.setMsi(pos);
        break;
      case PCI_CAP_ID_VNDR:
        // Vendor capabilities are a device's own registers in config space: the hardware decides what a write does.
        for (let i = pos + 2; i < EXT_BASE && this.owner[i] === id; i++) this.set(i, 1, 0, ALL);
        break;
    }
  }

  private setMsi(pos: number): void {
    const flags = this.config.read(pos + PCI_MSI_FLAGS, 2);
    this.set(pos + PCI_MSI_FLAGS, 1, ALL, ALL);
    this.set(pos + PCI_MSI_ADDRESS_LO, 4, ALL, ALL);
    let at = pos + PCI_MSI_ADDRESS_LO + 4;
    if ((flags & PCI_MSI_FLAGS_64BIT) !== 0) {
      this.set(at, 4, ALL, ALL);
      at += 4;
    }
    this.set(at, 2, ALL, ALL);
    if ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0) this.set(at + 4, 4, 0, ALL);
  }

  private mapExtendedChain(): void {
    let previous = 0;
    const seen = new Set<number>();
    for (let pos = EXT_BASE; pos >= EXT_BASE && pos + 4 <= this.config.sizeBytes && !seen.has(pos); ) {
      seen.add(pos);
      const header = this.config.read(pos, 4);
      if (header === 0) break;
      const id = header & 0xffff;
      const next = (header >>> 20) & ~3;
      const length = this.extendedLength(id, pos);
      if (length > 0) {
        this.claim(EXT_ID + id, pos, length);
        this.set(pos, 4, ALL, 0);
        if (id === PCI_EXT_CAP_ID_VNDR || id === PCI_EXT_CAP_ID_DVSEC) {
          for (let i = pos + 4; i < pos + length; i++) this.set(i, 1, 0, ALL);
        }
        previous = pos;
      } else {
        this.hideExtended(pos, previous, next);
      }
      pos = next;
    }
  }

  /** The first one must stay where it is: it keeps its next pointer, and shows id and version 0. */
  private hideExtended(pos: number, previous: number, next: number): void {
    if (previous === 0) {
      this.owner.fill(OWNER_VIRTUAL, pos, pos + 4);
      this.set(pos, 4, ALL, 0);
      this.patches.push({ offset: pos, size: 4, value: (next << 20) >>> 0 });
      return;
    }
    const header = this.config.read(previous, 4);
    this.patches.push({ offset: previous, size: 4, value: ((header & 0xfffff) | (next << 20)) >>> 0 });
  }

  private extendedLength(id: number, pos: number): number {
    if (id === PCI_EXT_CAP_ID_VNDR) return (this.config.read(pos + 4, 4) >>> 20) & 0xfff;
    if (id === PCI_EXT_CAP_ID_DVSEC) return (this.config.read(pos + 4, 4) >>> 20) & 0xfff;
    return EXT_LENGTHS.get(id) ?? 0;
  }
}

const ALL = 0xffffffff;
