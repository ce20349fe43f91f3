/** The registers of config space as the hardware holds them: values, and which bits a write changes. */
import { Errno } from '../abi/errno.ts';
import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_EXP_SIZE,
  PCI_CFG_SPACE_SIZE,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STD_HEADER_SIZEOF,
} from '../abi/pci_regs.ts';

export class ConfigSpace {
  /** 256, or 4096 with extended config space. */
  readonly sizeBytes: number;
  private readonly bytes: Uint8Array;
  /** Bits that a write sets as given. */
  private readonly writable: Uint8Array;
  /** Bits that a write of 1 clears. */
  private readonly clearable: Uint8Array;
  /** Registers from here on were never set or made writable. */
  private end = 0;
  private lastCapability = PCI_CAPABILITY_LIST;
  private lastExtended = 0;

  constructor(sizeBytes: 256 | 4096 = PCI_CFG_SPACE_EXP_SIZE) {
    this.sizeBytes = sizeBytes;
    const all = new ArrayBuffer(3 * sizeBytes);
    this.bytes = new Uint8Array(all, 0, sizeBytes);
    this.writable = new Uint8Array(all, sizeBytes, sizeBytes);
    this.clearable = new Uint8Array(all, 2 * sizeBytes, sizeBytes);
  }

  /** A register of 1, 2 or 4 bytes. EFAULT outside. */
  read(offset: number, size: number): number {
    this.check(offset, size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = ((value << 8) | this.bytes[offset + i]) >>> 0;
    return value;
  }

  /** A config write: read-only bits stay, RW1C bits clear. Returns the new value. */
  write(offset: number, size: number, value: number): number {
    this.check(offset, size);
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      const writable = this.writable[at];
      this.bytes[at] = ((this.bytes[at] & ~writable) | (byte & writable)) & ~(byte & this.clearable[at]);
    }
    return this.read(offset, size);
  }

  /** Sets a register, read-only bits included: for the device itself. */
  set(offset: number, size: number, value: number): void {
    this.check(offset, size);
    this.uses(offset + size);
    for (let i = 0; i < size; i++) this.bytes[offset + i] = (value >>> (8 * i)) & 0xff;
  }

  /** Declares bits of a register writable, and others RW1C. */
  allow(offset: number, size: number, writable: number, clearable = 0): void {
    this.check(offset, size);
    this.uses(offset + size);
    for (let i = 0; i < size; i++) {
      this.writable[offset + i] = (writable >>> (8 * i)) & 0xff;
      this.clearable[offset + i] = (clearable >>> (8 * i)) & 0xff;
    }
  }

  /** A copy of all bytes. */
  snapshot(): Uint8Array {
    return this.bytes.slice();
  }

  /** The registers up to the last one in use, for `restore`. */
  save(): Uint8Array {
    return this.bytes.slice(0, this.end);
  }

  /** Puts back the result of `save`. Registers added since become 0, as they were. */
  restore(saved: Uint8Array): void {
    this.bytes.set(saved);
    this.bytes.fill(0, saved.length, this.end);
  }

  /** As `restore`, for all bytes of another function of the same kind: bits that software cannot change stay. */
  loadWritable(bytes: Uint8Array): void {
    for (let i = 0; i < this.sizeBytes; i++) {
      const bits = this.writable[i] | this.clearable[i];
      this.bytes[i] = (this.bytes[i] & ~bits) | (bytes[i] & bits);
    }
  }

  /** Every capability in the order of the lists, standard ones first. */
  capabilities(): { id: number; offset: number; extended: boolean }[] {
    const found: { id: number; offset: number; extended: boolean }[] = [];
    const seen = new Set<number>();
    for (let at = this.first(); at !== 0 && !seen.has(at); at = this.after(at)) {
      seen.add(at);
      found.push({ id: this.bytes[at], offset: at, extended: false });
    }
    for (let at = this.firstExtended(); at !== 0 && !seen.has(at); at = this.afterExtended(at)) {
      seen.add(at);
      found.push({ id: this.read(at, 2), offset: at, extended: true });
    }
    return found;
  }

  /** Where a capability starts, or 0. */
  find(id: number): number {
    // The limit ends a circular list: a list cannot have more members than places.
    let places = PCI_CFG_SPACE_SIZE / 4;
    for (let at = this.first(); at !== 0 && places > 0; at = this.after(at)) {
      if (this.bytes[at] === id) return at;
      places -= 1;
    }
    return 0;
  }

  /** Where an extended capability starts, or 0. */
  findExt(id: number): number {
    let places = this.sizeBytes / 4;
    for (let at = this.firstExtended(); at !== 0 && places > 0; at = this.afterExtended(at)) {
      if (this.read(at, 2) === id) return at;
      places -= 1;
    }
    return 0;
  }

  /** Appends a capability to the chain at `at`, a multiple of 4 that the caller chose. */
  addCapability(id: number, at: number): void {
    this.set(PCI_STATUS, 2, this.read(PCI_STATUS, 2) | PCI_STATUS_CAP_LIST);
    const link = this.lastCapability === PCI_CAPABILITY_LIST ? PCI_CAPABILITY_LIST : this.lastCapability + 1;
    this.set(link, 1, at);
    this.set(at, 2, id);
    this.lastCapability = at;
  }

  /** Appends an extended capability; the first one must be at 0x100. */
  addExtended(id: number, version: number, at: number): void {
    if (this.lastExtended !== 0) {
      this.set(this.lastExtended, 4, ((this.read(this.lastExtended, 4) & 0xfffff) | (at << 20)) >>> 0);
    }
    this.set(at, 4, ((version << 16) | id) >>> 0);
    this.lastExtended = at;
  }

  /** The start of the list of capabilities, and the next member; 0 at its end. */
  private first(): number {
    return (this.read(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST) === 0 ? 0 : this.linked(PCI_CAPABILITY_LIST);
  }

  private after(offset: number): number {
    return this.linked(offset + 1);
  }

  private linked(link: number): number {
    const offset = this.bytes[link] & ~3;
    return offset < PCI_STD_HEADER_SIZEOF ? 0 : offset;
  }

  private firstExtended(): number {
    return this.sizeBytes > PCI_CFG_SPACE_SIZE && this.read(PCI_CFG_SPACE_SIZE, 4) !== 0 ? PCI_CFG_SPACE_SIZE : 0;
  }

  private afterExtended(offset: number): number {
    const next = (this.read(offset, 4) >>> 20) & ~3;
    return next < PCI_CFG_SPACE_SIZE || this.read(next, 4) === 0 ? 0 : next;
  }

  private uses(end: number): void {
    if (end > this.end) this.end = end;
  }

  private check(offset: number, size: number): void {
    if (offset < 0 || offset + size > this.sizeBytes) {
      throw new Errno('EFAULT', `register 0x${offset.toString(16)} of ${this.sizeBytes} bytes of config space`);
    }
  }
}
