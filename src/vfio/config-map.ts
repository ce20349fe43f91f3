/**
 * Maps each byte of config space to its capability, and tells which bits are the user's copy and which are writable.
 * Pure layout: perms/ has the rules, and config.ts acts on them.
 */
import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci_regs.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import { EXTENDED_CAPABILITIES } from './perms/extended.ts';
import { declareHeader } from './perms/header.ts';
import { ALL, type CapabilityRegisters, type CapabilityRule, type Declare, writeNothing } from './perms/perm-bits.ts';
import { STANDARD_CAPABILITIES } from './perms/standard.ts';

/** Bytes in no capability: the user reads and writes the hardware's. */
export const OWNER_NONE = -1;
export const OWNER_HEADER = -2;

/** A capability that users see. */
export interface VisibleCapability {
  readonly id: number;
  readonly extended: boolean;
  readonly start: number;
  readonly length: number;
  readonly rule: CapabilityRule;
}

/** The id of a hidden first extended capability, whose place in the list is kept. */
const PLACEHOLDER_ID = 0;
const PLACEHOLDER: CapabilityRule = { length: 4, write: writeNothing };

/** The maps made last. Functions of the same kind share one map: it is four times as large as their registers. */
const KNOWN: { bytes: Uint8Array; map: ConfigMap }[] = [];
const MAX_KNOWN = 32;

/** The map of a config space as it is now; `bytes` is its whole content. Callers must not change the map. */
export function configMapOf(config: ConfigSpace, bytes: Uint8Array): ConfigMap {
  const known = KNOWN.find((one) => Buffer.compare(one.bytes, bytes) === 0);
  if (known !== undefined) return known.map;
  const map = new ConfigMap(config);
  if (KNOWN.length === MAX_KNOWN) KNOWN.shift();
  KNOWN.push({ bytes: bytes.slice(), map });
  return map;
}

export class ConfigMap {
  /** For each byte its index in `capabilities`, or one of the OWNER_ values. */
  readonly owner: Int32Array;
  /** Bits that come from the user's copy. */
  readonly virt: Uint8Array;
  /** Bits that the user may change: in the copy where `virt` is set, else in the hardware. */
  readonly writable: Uint8Array;
  readonly capabilities: VisibleCapability[] = [];
  /** Bytes of the user's copy that differ from the hardware's: lists without hidden capabilities, and cleared bits. */
  readonly patches = new Map<number, number>();
  private readonly config: ConfigSpace;

  constructor(config: ConfigSpace) {
    this.config = config;
    this.owner = new Int32Array(config.sizeBytes).fill(OWNER_NONE);
    this.virt = new Uint8Array(config.sizeBytes);
    this.writable = new Uint8Array(config.sizeBytes);
    this.owner.fill(OWNER_HEADER, 0, PCI_STD_HEADER_SIZEOF);
    declareHeader(this.declareFrom(0, PCI_STD_HEADER_SIZEOF));
    this.mapStandardList();
    if (config.sizeBytes > PCI_CFG_SPACE_SIZE) this.mapExtendedList();
  }

  /** The first capability of an id in the user's list of its kind. */
  find(id: number, extended = false): VisibleCapability | undefined {
    return this.capabilities.find((capability) => capability.id === id && capability.extended === extended);
  }

  /** Declares fields that begin at `start`. Bytes past `length` belong to another capability. */
  private declareFrom(start: number, length: number): Declare {
    return {
      field: (offset, bytes, virt, writable) => {
        for (let i = 0; i < bytes && offset + i < length; i++) {
          this.virt[start + offset + i] = (virt >>> (8 * i)) & 0xff;
          this.writable[start + offset + i] = (writable >>> (8 * i)) & 0xff;
        }
      },
      clear: (offset, bytes, bits) => {
        for (let i = 0; i < bytes && offset + i < length; i++) {
          this.patch(start + offset + i, 0, (bits >>> (8 * i)) & 0xff);
        }
      },
    };
  }

  /** Gives the bits of `mask` in a byte of the user's copy the values that they have in `value`. */
  private patch(at: number, value: number, mask: number): void {
    const before = this.patches.get(at) ?? this.config.read(at, 1);
    this.patches.set(at, (before & ~mask) | (value & mask));
  }

  /** Leaves hidden capabilities out: the one before points to the one after. */
  private mapStandardList(): void {
    if ((this.config.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0) return;
    let pointer = PCI_CAPABILITY_LIST;
    const seen = new Set<number>();
    for (let at = this.config.read(pointer, 1) & ~3; at >= PCI_STD_HEADER_SIZEOF && !seen.has(at); ) {
      seen.add(at);
      const next = this.config.read(at + 1, 1) & ~3;
      const id = this.config.read(at, 1);
      if (this.claim(id, false, at, STANDARD_CAPABILITIES.get(id))) pointer = at + 1;
      else this.patch(pointer, next, 0xff);
      at = next;
    }
    // An empty list is not announced.
    if (this.capabilities.length === 0) this.patch(PCI_STATUS, 0, PCI_STATUS_CAP_LIST);
  }

  /**
   * The list always begins at 0x100: a hidden first capability keeps its place and its next pointer, and shows id and
   * version 0. If no visible capability follows, the pointer is 0 too.
   */
  private mapExtendedList(): void {
    const hidden: number[] = [];
    let previous: { at: number; idAndVersion: number } | null = null;
    const seen = new Set<number>();
    for (let at = PCI_CFG_SPACE_SIZE; at >= PCI_CFG_SPACE_SIZE && at + 4 <= this.config.sizeBytes && !seen.has(at); ) {
      seen.add(at);
      const header = this.config.read(at, 4);
      if (header === 0) break;
      const next = (header >>> 20) & ~3;
      if (this.claim(header & 0xffff, true, at, EXTENDED_CAPABILITIES.get(header & 0xffff))) {
        previous = { at, idAndVersion: header & 0xfffff };
      } else {
        hidden.push(at);
        if (previous === null) {
          this.claim(PLACEHOLDER_ID, true, at, PLACEHOLDER);
          previous = { at, idAndVersion: 0 };
        }
        this.patchHeader(previous.at, previous.idAndVersion, next);
      }
      at = next;
    }
    if (hidden.length === seen.size && previous !== null) this.patchHeader(previous.at, 0, 0);
  }

  private patchHeader(at: number, idAndVersion: number, next: number): void {
    const value = (idAndVersion | (next << 20)) >>> 0;
    for (let i = 0; i < 4; i++) this.patch(at + i, value >>> (8 * i), 0xff);
  }

  /** Shows a capability; false where it is hidden. Its header is always the user's copy. */
  private claim(id: number, extended: boolean, start: number, rule: CapabilityRule | undefined): boolean {
    if (rule === undefined) return false;
    const registers = this.registersAt(start);
    const wanted = typeof rule.length === 'number' ? rule.length : rule.length(registers);
    const length = Math.min(wanted, (extended ? this.config.sizeBytes : PCI_CFG_SPACE_SIZE) - start);
    if (length === 0) return false;
    this.owner.fill(this.capabilities.length, start, start + length);
    this.capabilities.push({ id, extended, start, length, rule });
    const declare = this.declareFrom(start, length);
    if (extended) declare.field(0, 4, ALL, 0);
    else declare.field(1, 1, ALL, 0);
    rule.declare?.(declare, registers);
    return true;
  }

  /** Registers past the end of config space read as ones, as those of an absent device do. */
  private registersAt(start: number): CapabilityRegisters {
    return {
      read: (offset, size) =>
        start + offset + size <= this.config.sizeBytes ? this.config.read(start + offset, size) : 2 ** (8 * size) - 1,
    };
  }
}
