/** The config space of a captured device, and the capabilities of its two lists. */
import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci_regs.ts';
import { extendedLength, standardLength } from './capability-length.ts';
import { capabilityName } from './capability-names.ts';

export interface CapturedCapability {
  id: number;
  extended: boolean;
  offset: number;
  /** The end of the bytes that all devices of the kind have. */
  leastEnd: number;
  /** The end of the bytes that this device may have: the next capability begins here or later. */
  end: number;
}

/** A list of capabilities that cannot exist in hardware. */
export class CapabilityListError extends Error {}

export class CapturedConfig {
  /** 64, 256 or 4096 bytes; bytes outside the dump are 0. */
  readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(dump: Uint8Array) {
    const isExtended = dump.length > PCI_CFG_SPACE_SIZE && dump.subarray(0x100, 0x104).some((byte) => byte !== 0xff);
    // Behind a bridge without extended config space, the space reads as ones (pci_cfg_space_size_ext).
    this.bytes = new Uint8Array(isExtended ? PCI_CFG_SPACE_EXP_SIZE : PCI_CFG_SPACE_SIZE);
    this.bytes.set(dump.subarray(0, this.bytes.length));
    this.view = new DataView(this.bytes.buffer);
    // A user other than root reads only the header. It points at capabilities outside the dump.
    if (dump.length <= PCI_STD_HEADER_SIZEOF) {
      this.bytes[PCI_STATUS] &= ~PCI_STATUS_CAP_LIST;
      this.bytes[PCI_CAPABILITY_LIST] = 0;
    }
  }

  readonly read = (offset: number, size: 1 | 2 | 4): number => {
    if (offset + size > this.bytes.length) return 0;
    if (size === 4) return this.view.getUint32(offset, true);
    return size === 2 ? this.view.getUint16(offset, true) : this.bytes[offset];
  };

  /**
   * Returns the capabilities in the order of their offsets. CapabilityListError for lists that cannot exist in
   * hardware.
   */
  capabilities(): CapturedCapability[] {
    const found = [...this.standard(), ...this.extended()].sort((a, b) => a.offset - b.offset);
    for (const [i, capability] of found.entries()) {
      const next = found[i + 1];
      if (next === undefined) break;
      if (capability.leastEnd > next.offset) {
        throw new CapabilityListError(`${named(capability)} and ${named(next)} overlap`);
      }
      capability.end = Math.min(capability.end, next.offset);
    }
    return found;
  }

  /** Whether the device has a capability of the standard list. Throws as `capabilities`. */
  hasCapability(id: number): boolean {
    return this.capabilities().some((capability) => !capability.extended && capability.id === id);
  }

  private *standard(): Generator<CapturedCapability> {
    if ((this.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0) return;
    const seen = new Set<number>();
    for (let at = this.read(PCI_CAPABILITY_LIST, 1) & ~3; at !== 0; at = this.read(at + 1, 1) & ~3) {
      if (at < PCI_STD_HEADER_SIZEOF) throw new CapabilityListError(`a capability at ${hex(at)} lies in the header`);
      if (seen.has(at)) throw new CapabilityListError(`the list of capabilities comes to ${hex(at)} a second time`);
      seen.add(at);
      const id = this.read(at, 1);
      if (id === 0xff) throw new CapabilityListError(`the capability at ${hex(at)} reads as ones`);
      const { least, full } = standardLength(id, at, this.read);
      yield this.placed({ id, extended: false, offset: at, leastEnd: at + least, end: at + full }, PCI_CFG_SPACE_SIZE);
    }
  }

  private *extended(): Generator<CapturedCapability> {
    const size = this.bytes.length;
    if (size <= PCI_CFG_SPACE_SIZE || this.read(PCI_CFG_SPACE_SIZE, 4) === 0) return;
    const seen = new Set<number>();
    for (let at = PCI_CFG_SPACE_SIZE; at !== 0; at = (this.read(at, 4) >>> 20) & ~3) {
      if (at < PCI_CFG_SPACE_SIZE) throw new CapabilityListError(`an extended capability lies at ${hex(at)}`);
      if (seen.has(at)) throw new CapabilityListError(`the list of capabilities comes to ${hex(at)} a second time`);
      seen.add(at);
      const id = this.read(at, 2);
      if (id === 0xffff) throw new CapabilityListError(`the extended capability at ${hex(at)} reads as ones`);
      const { least, full } = extendedLength(id, at, this.read);
      yield this.placed({ id, extended: true, offset: at, leastEnd: at + least, end: at + full }, size);
    }
  }

  private placed(capability: CapturedCapability, size: number): CapturedCapability {
    if (capability.leastEnd > size) {
      throw new CapabilityListError(`${named(capability)} goes beyond the ${size} bytes that it may be in`);
    }
    return { ...capability, end: Math.min(capability.end, size) };
  }
}

function named({ id, extended, offset, leastEnd }: CapturedCapability): string {
  return `${capabilityName(id, extended)} at ${hex(offset)} (${leastEnd - offset} bytes)`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
