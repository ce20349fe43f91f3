import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Errno } from '../abi/errno.ts';

/** PCI devices as /sys/bus/pci shows them. */
const SYS_PCI = '/sys/bus/pci';

/** linux/ioport.h: the type bits of a line of `resource`. */
const IORESOURCE_IO = 0x100;
const IORESOURCE_MEM = 0x200;
const IORESOURCE_PREFETCH = 0x2000;
const IORESOURCE_MEM_64 = 0x100000;
/** Lines 0 to 5 are the BARs, line 6 is the ROM, later ones are windows of bridges and BARs of VFs. */
const NUM_BARS = 6;
const ROM_LINE = 6;

export interface SysfsBar {
  index: number;
  kind: 'io' | 'mem32' | 'mem64';
  prefetchable: boolean;
  sizeBytes: number;
}

export interface SysfsPciDevice {
  /** "0000:00:02.0" */
  bdf: string;
  /** 256 or 4096 bytes; 64 when the reader is not root. */
  config: Uint8Array;
  vendor: number;
  device: number;
  /** 24 bits: class, subclass, programming interface. */
  classCode: number;
  bars: SysfsBar[];
  romSizeBytes: number;
  /** null without an IOMMU. */
  iommuGroup: number | null;
  driver: string | null;
  /** For a virtual function the address of its physical function. Its ids read ffff in config space. */
  physfn: string | null;
  /** Vital product data; null where the device has none, or the reader may not read them. */
  vpd: Uint8Array | null;
}

/** Turns "1:2.3" and "0000:01:02.3" into "0000:01:02.3". EINVAL for any other text. */
export function normalizeBdf(text: string): string {
  const match = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text);
  if (match === null)
    throw new Errno('EINVAL', `${text} is not a PCI address: write DOMAIN:BUS:DEVICE.FUNCTION in hex`);
  const [, domain = '0', bus, device, fn] = match;
  return `${domain.padStart(4, '0')}:${bus.padStart(2, '0')}:${device.padStart(2, '0')}.${fn}`.toLowerCase();
}

/** The folder of a device's files. */
export function sysfsPath(address: string): string {
  return join(SYS_PCI, 'devices', address);
}

/** The addresses of all PCI devices; none on a machine without PCI. */
export function listPciDevices(root = SYS_PCI): string[] {
  const folder = join(root, 'devices');
  return existsSync(folder) ? readdirSync(folder).sort() : [];
}

/** Reads a device. ENODEV without a device at that address. */
export function readPciDevice(address: string, root = SYS_PCI): SysfsPciDevice {
  const bdf = normalizeBdf(address);
  const folder = join(root, 'devices', bdf);
  if (!existsSync(folder)) throw new Errno('ENODEV', `no PCI device ${bdf}; there are: ${known(root)}`);
  const number = (file: string) => Number.parseInt(readFileSync(join(folder, file), 'utf8'), 16);
  const lines = readFileSync(join(folder, 'resource'), 'utf8').trim().split('\n').map(parseResource);
  const group = linkName(join(folder, 'iommu_group'));
  return {
    bdf,
    config: readFileSync(join(folder, 'config')),
    vendor: number('vendor'),
    device: number('device'),
    classCode: number('class'),
    bars: lines.slice(0, NUM_BARS).flatMap((line, index) => {
      const bar = toBar(index, line);
      return bar === null ? [] : [bar];
    }),
    romSizeBytes: lines[ROM_LINE]?.sizeBytes ?? 0,
    iommuGroup: group === null ? null : Number(group),
    driver: linkName(join(folder, 'driver')),
    physfn: linkName(join(folder, 'physfn')),
    vpd: readVpd(join(folder, 'vpd')),
  };
}

/** The kernel has no file where a device has no such data, and an errno where it does not answer or is root's. */
function readVpd(path: string): Uint8Array | null {
  try {
    const bytes = readFileSync(path);
    return bytes.length === 0 ? null : bytes;
  } catch (error) {
    if ((error as { errno?: number }).errno === undefined) throw error;
    return null;
  }
}

/** Returns the device's BAR that contains a host address, and the offset; null where none does. */
export function findBar(address: string, at: number, root = SYS_PCI): { index: number; offset: number } | null {
  const lines = readFileSync(join(root, 'devices', normalizeBdf(address), 'resource'), 'utf8')
    .trim()
    .split('\n');
  const bars = lines.slice(0, NUM_BARS).map(parseResource);
  const index = bars.findIndex(({ start, sizeBytes }) => at >= start && at < start + sizeBytes);
  return index < 0 ? null : { index, offset: at - bars[index].start };
}

/**
 * Binds a device to vfio-pci alone, whatever its ids: driver_override, unbind, drivers_probe. Returns its former
 * driver. ENODEV when the kernel did not bind it (vfio-pci not loaded, no IOMMU); EACCES without root.
 */
export function bindToVfioPci(address: string, root = SYS_PCI): string | null {
  const bdf = normalizeBdf(address);
  const folder = join(root, 'devices', bdf);
  const before = linkName(join(folder, 'driver'));
  if (before === 'vfio-pci') return before;
  writeSysfs(join(folder, 'driver_override'), 'vfio-pci');
  if (before !== null) writeSysfs(join(folder, 'driver', 'unbind'), bdf);
  writeSysfs(join(root, 'drivers_probe'), bdf);
  if (linkName(join(folder, 'driver')) !== 'vfio-pci') {
    throw new Errno('ENODEV', `${bdf} did not bind to vfio-pci: is the module loaded, and is an IOMMU on?`);
  }
  return before;
}

/** Gives a device back to the driver that the kernel finds for it. */
export function unbindFromVfioPci(address: string, root = SYS_PCI): void {
  const bdf = normalizeBdf(address);
  const folder = join(root, 'devices', bdf);
  writeSysfs(join(folder, 'driver_override'), '\n');
  if (linkName(join(folder, 'driver')) === 'vfio-pci') writeSysfs(join(folder, 'driver', 'unbind'), bdf);
  writeSysfs(join(root, 'drivers_probe'), bdf);
}

interface ResourceLine {
  start: number;
  sizeBytes: number;
  flags: number;
}

/**
 * Parses "0x00000000fe000000 0x00000000feffffff 0x0000000000040200": first, last, flags; all zero for an unused line.
 */
function parseResource(line: string): ResourceLine {
  const [start, end, flags] = line.split(/\s+/).map((word) => BigInt(word));
  const sizeBytes = end === 0n && start === 0n ? 0 : Number(end - start + 1n);
  return { start: Number(start), sizeBytes, flags: Number(flags & 0xffff_ffffn) };
}

function toBar(index: number, { sizeBytes, flags }: ResourceLine): SysfsBar | null {
  if (sizeBytes === 0 || (flags & (IORESOURCE_IO | IORESOURCE_MEM)) === 0) return null;
  const memory = (flags & IORESOURCE_MEM_64) !== 0 ? 'mem64' : 'mem32';
  const kind = (flags & IORESOURCE_IO) !== 0 ? 'io' : memory;
  return { index, kind, prefetchable: (flags & IORESOURCE_PREFETCH) !== 0, sizeBytes };
}

function linkName(path: string): string | null {
  try {
    return basename(readlinkSync(path));
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return null;
    throw error;
  }
}

function writeSysfs(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    const number = (error as { errno?: number }).errno;
    if (number === undefined) throw error;
    throw Errno.fromCode(Math.abs(number), `write of ${JSON.stringify(text)} to ${path}`);
  }
}

function known(root: string): string {
  const all = listPciDevices(root);
  return all.length === 0 ? 'none' : `${all.slice(0, 8).join(', ')}${all.length > 8 ? ', ...' : ''}`;
}
