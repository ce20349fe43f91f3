/**
 * Vital product data (PCI 3.0, Appendix I): the serial numbers and names in a small memory of the device. Software
 * reaches it four bytes at a time through two registers of the VPD capability.
 */
import { PCI_CAP_ID_VPD, PCI_VPD_ADDR, PCI_VPD_ADDR_F, PCI_VPD_ADDR_MASK, PCI_VPD_DATA } from '../abi/pci_regs.ts';
import type { ConfigSpace } from './config-space.ts';
import { covers, type RegisterWrite } from './register-write.ts';

/** Bit 7 of a tag: a large resource, with 16 bits of length behind it. */
const LARGE = 0x80;
const IDENTIFIER_TAG = 0x82;
const READ_ONLY_TAG = 0x90;
const READ_WRITE_TAG = 0x91;
const END_TAG = 0x78;

export class Vpd {
  private readonly bytes: Uint8Array;
  /** Bytes up to and including the end tag; 0 if there is none. */
  private readonly sizeBytes: number;
  /** The fields that a system may write: the resource with the read-write tag. */
  private readonly writable: { start: number; end: number };

  /** Takes ownership of `bytes`. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    const { sizeBytes, writable } = resourcesOf(bytes);
    this.sizeBytes = sizeBytes;
    this.writable = writable;
  }

  /** Returns the data up to their end tag; null for bytes that software would not take for vital product data. */
  static dataOf(bytes: Uint8Array): Uint8Array | null {
    const { sizeBytes } = resourcesOf(bytes);
    return sizeBytes === 0 ? null : bytes.subarray(0, sizeBytes);
  }

  /** A read-only name, and `writableBytes` for the system's own keywords. */
  static named(name: string, writableBytes = 0): Vpd {
    const text = Buffer.from(name, 'latin1');
    const readOnly = Buffer.from([...large(READ_ONLY_TAG, 4), ...keyword('RV', Uint8Array.of(0))]);
    const start = Buffer.concat([Buffer.from(large(IDENTIFIER_TAG, text.length)), text, readOnly]);
    // The checksum makes the sum of all bytes, up to and including itself, 0.
    start[start.length - 1] = -start.reduce((sum, byte) => sum + byte, 0) & 0xff;
    const writable =
      writableBytes === 0
        ? []
        : [...large(READ_WRITE_TAG, writableBytes + 3), ...keyword('RW', new Uint8Array(writableBytes))];
    return new Vpd(Buffer.concat([start, Buffer.from([...writable, END_TAG])]));
  }

  /** The four bytes at an address; bytes past the end are 0 (pci_read_vpd). Null if the data cannot be read. */
  read(address: number): number | null {
    if (this.sizeBytes === 0) return null;
    let value = 0;
    for (let i = 3; i >= 0; i--) value = (value << 8) | (address + i < this.sizeBytes ? this.bytes[address + i] : 0);
    return value >>> 0;
  }

  /**
   * Writes four bytes. Returns false unless the address is a multiple of four inside the data (pci_write_vpd). Bytes
   * outside the read-write fields stay.
   */
  write(address: number, value: number): boolean {
    if (address % 4 !== 0 || address >= this.sizeBytes) return false;
    for (let at = address; at < address + 4; at++) {
      if (at >= this.writable.start && at < this.writable.end) {
        this.bytes[at] = (value >>> (8 * (at - address))) & 0xff;
      }
    }
    return true;
  }

  /** The hardware's reaction to a write of its registers: an address orders the transfer, and then the flag flips. */
  afterWrite(config: ConfigSpace, write: RegisterWrite): void {
    const at = config.find(PCI_CAP_ID_VPD);
    if (at === 0 || !covers(write, at + PCI_VPD_ADDR + 1)) return;
    const address = config.read(at + PCI_VPD_ADDR, 2);
    const isWrite = (address & PCI_VPD_ADDR_F) !== 0;
    if (isWrite) this.write(address & PCI_VPD_ADDR_MASK, config.read(at + PCI_VPD_DATA, 4));
    else config.set(at + PCI_VPD_DATA, 4, this.read(address) ?? 0);
    config.set(at + PCI_VPD_ADDR, 2, address ^ PCI_VPD_ADDR_F);
  }
}

function large(tag: number, length: number): number[] {
  return [tag, length & 0xff, length >> 8];
}

function keyword(name: string, bytes: Uint8Array): number[] {
  return [...Buffer.from(name, 'latin1'), bytes.length, ...bytes];
}

function resourcesOf(bytes: Uint8Array): { sizeBytes: number; writable: { start: number; end: number } } {
  let writable = { start: 0, end: 0 };
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at];
    if (tag === END_TAG) return { sizeBytes: at + 1, writable };
    if (tag === 0 || tag === 0xff) break;
    const start = at + ((tag & LARGE) === 0 ? 1 : 3);
    const end = start + ((tag & LARGE) === 0 ? tag & 7 : bytes[at + 1] + 256 * bytes[at + 2]);
    if (tag === READ_WRITE_TAG) writable = { start, end };
    at = end;
  }
  return { sizeBytes: 0, writable };
}
