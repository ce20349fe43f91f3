/**
 * In the guest: finds out which registers of a device can be written, and how its vfio-pci answers reads and writes.
 */
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { Errno } from '../../src/abi/errno.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../src/abi/vfio.ts';
import { bindToVfioPci, readPciDevice } from '../../src/linux/sysfs.ts';
import { openGroup } from '../../src/linux/vfio/container.ts';
import { VfioDevice } from '../../src/linux/vfio/device.ts';

const FIRST_CAPABILITY = 0x40;

export interface ConfigAccesses {
  address: string;
  /** Dwords that must not be written while no driver owns the device, because QEMU acts on them. */
  skip: number[];
  /** In this order: offset, size, and the value to write, or null for a read. */
  accesses: [offset: number, size: number, value: number | null][];
}

/** All config space in hexadecimal. */
export interface ConfigAnswers {
  /** The bits that can be 1, and the bits that can be 0. */
  ones: string;
  zeros: string;
  /** The hardware's registers once vfio-pci has opened the device. */
  opened: string;
  /** For each access: the value read, null for a write, or an errno. */
  answers: (number | string | null)[];
}

export function accessConfig({ address, skip, accesses }: ConfigAccesses): ConfigAnswers {
  const file = openSync(`/sys/bus/pci/devices/${address}/config`, 'r+');
  try {
    const { ones, zeros } = probe(file, new Set(skip));
    bindToVfioPci(address);
    const { group, close } = openGroup(readPciDevice(address).iommuGroup!);
    try {
      const device = new VfioDevice(group.getDevice(address), address);
      const opened = readAll(file);
      const answers = accesses.map(([offset, size, value]) => access(device, offset, size, value));
      device.close();
      const hex = (bytes: Buffer): string => bytes.toString('hex');
      return { ones: hex(ones), zeros: hex(zeros), opened: hex(opened), answers };
    } finally {
      close();
    }
  } finally {
    closeSync(file);
  }
}

function access(device: VfioDevice, offset: number, size: number, value: number | null): number | string | null {
  const bytes = Buffer.alloc(size);
  try {
    if (value === null) {
      device.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes);
      return bytes.readUIntLE(0, size);
    }
    bytes.writeUIntLE(value, 0, size);
    device.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes);
    return null;
  } catch (error) {
    if (error instanceof Errno) return error.code;
    throw error;
  }
}

function readAll(file: number): Buffer {
  const bytes = Buffer.alloc(fstatSync(file).size);
  readSync(file, bytes, 0, bytes.length, 0);
  return bytes;
}

/** Writes ones and zeros to each dword after the header, and then restores it. */
function probe(file: number, skip: ReadonlySet<number>): { ones: Buffer; zeros: Buffer } {
  const ones = readAll(file);
  const zeros = Buffer.from(ones);
  const before = Buffer.from(ones);
  for (let at = FIRST_CAPABILITY; at < ones.length; at += 4) {
    if (skip.has(at)) continue;
    writeSync(file, Buffer.alloc(4, 0xff), 0, 4, at);
    readSync(file, ones, at, 4, at);
    writeSync(file, Buffer.alloc(4), 0, 4, at);
    readSync(file, zeros, at, 4, at);
    writeSync(file, before, at, 4, at);
  }
  return { ones, zeros };
}
