/** Devices from the text of `lspci -vvv -xxxx`: the dump gives bytes; the words give BAR sizes and the driver. */
import {
  PCI_BASE_ADDRESS_0,
  PCI_CLASS_REVISION,
  PCI_DEVICE_ID,
  PCI_EXT_CAP_ID_SRIOV,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_SRIOV_TOTAL_VF,
  PCI_SRIOV_VF_DID,
  PCI_SRIOV_VF_OFFSET,
  PCI_SRIOV_VF_STRIDE,
  PCI_STD_HEADER_SIZEOF,
  PCI_STD_NUM_BARS,
  PCI_VENDOR_ID,
} from '../abi/pci_regs.ts';
import { normalizeBdf, type SysfsBar, type SysfsPciDevice } from '../linux/sysfs.ts';
import { CapabilityListError, CapturedConfig } from './captured-config.ts';
import { ConfigTextError, isDumpLine, LSPCI_HEADER, parseConfigText, textLines } from './config-text.ts';

const UNITS: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const SIZE = /\[size=(\d+)([KMGT]?)\]/;
/** "Region 0: Memory at fd000000 (64-bit, prefetchable) [size=16M]"; without "Region 0: " for a single -v. */
const REGION = /^\s*(?:Region (\d):\s*)?(?:\[virtual\]\s*)?(Memory|I\/O ports) at \S+(?: \(([^)]*)\))?(.*)$/;
const ROM = /^\s*(?:\[virtual\]\s*)?Expansion ROM at/;
const DRIVER = /^\s*Kernel driver in use: (\S+)/;
/** "[10de:1b80]" with -nn, "0300: 10de:1b80" with -n, "Device 8086:10c9" for unknown names. */
const IDS = /(?:\[|[ :])([0-9a-f]{4}):([0-9a-f]{4})(?:\]|\s|$)/i;

/** Text that lspci did not print, or printed without the necessary options. */
export class LspciError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LspciError';
  }
}

/** A device of the text. `problem` says why its text does not describe it; null for most. */
export interface LspciDevice extends SysfsPciDevice {
  problem: string | null;
}

/**
 * Returns every device of the text, bridges included. LspciError for a text without devices or dumps, or with one
 * device twice.
 */
export function parseLspci(text: string): LspciDevice[] {
  const blocks = blocksOf(textLines(text));
  if (blocks.length === 0) throw new LspciError('this is not the output of lspci; run lspci -vvv -xxxx');
  const dumped = blocks.filter(({ lines }) => lines.some(isDumpLine));
  if (dumped.length === 0) throw new LspciError('there is no dump of config space; run lspci -vvv -xxxx as root');
  const twice = dumped.find(({ bdf }, i) => dumped.findIndex((block) => block.bdf === bdf) < i);
  if (twice !== undefined) throw new LspciError(`${twice.bdf} comes twice in the text; keep one of the two`);
  const devices = dumped.map(deviceOf);
  return devices.map((device) => withPhysfn(device, devices));
}

/** The lines of a device, from its header on. */
interface DumpedDevice {
  bdf: string;
  title: string;
  lines: string[];
}

function blocksOf(lines: readonly string[]): DumpedDevice[] {
  const blocks: DumpedDevice[] = [];
  for (const line of lines) {
    const header = LSPCI_HEADER.exec(line.trim());
    if (header !== null) blocks.push({ bdf: normalizeBdf(header[1]), title: header[2] ?? '', lines: [] });
    else blocks.at(-1)?.lines.push(line);
  }
  return blocks;
}

/** Returns the bytes of the dump; the reason where they are not all there. */
function dumpOf(lines: readonly string[]): Uint8Array | string {
  try {
    return parseConfigText(lines.filter(isDumpLine).join('\n'));
  } catch (error) {
    if (error instanceof ConfigTextError) return error.message;
    throw error;
  }
}

function deviceOf({ bdf, title, lines }: DumpedDevice): LspciDevice {
  const dump = dumpOf(lines);
  const config = typeof dump === 'string' ? new Uint8Array(PCI_STD_HEADER_SIZEOF) : dump;
  const { read } = new CapturedConfig(config);
  const own = { vendor: read(PCI_VENDOR_ID, 2), device: read(PCI_DEVICE_ID, 2) };
  const ids = own.vendor === 0xffff ? IDS.exec(title) : null;
  const classRevision = read(PCI_CLASS_REVISION, 4);
  const words = withoutVirtualRegions(lines);
  const rom = words.find((line) => ROM.test(line));
  const bars = barsOf(words, classRevision >>> 8, read);
  const isEndpoint = (read(PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK) === 0;
  const sizes = 'it has BARs, and the text does not say their sizes; run lspci -vvv -xxxx on its machine';
  const withoutSizes = bars.length === 0 && isEndpoint && hasAddress(read) ? sizes : null;
  return {
    problem: typeof dump === 'string' ? dump : withoutSizes,
    bdf,
    config,
    vendor: ids === null ? own.vendor : Number.parseInt(ids[1], 16),
    device: ids === null ? own.device : Number.parseInt(ids[2], 16),
    classCode: classRevision >>> 8,
    bars,
    romSizeBytes: rom === undefined ? 0 : sizeOf(rom),
    iommuGroup: null,
    driver: words.map((line) => DRIVER.exec(line)?.[1]).find((name) => name !== undefined) ?? null,
    physfn: null,
    vpd: null,
  };
}

function hasAddress(read: CapturedConfig['read']): boolean {
  return Array.from({ length: PCI_STD_NUM_BARS }, (_, i) => read(PCI_BASE_ADDRESS_0 + 4 * i, 4)).some((bar) => bar > 0);
}

/** Leaves out the BARs of virtual functions, which SR-IOV lists like the device's own. */
function withoutVirtualRegions(lines: readonly string[]): string[] {
  let inSriov = false;
  return lines.filter((line) => {
    if (/Capabilities:/.test(line)) inSriov = /SR-IOV/.test(line);
    return !inSriov || !REGION.test(line);
  });
}

/** Returns the BARs with a size. Others are absent, or switched off by firmware. */
function barsOf(lines: readonly string[], classCode: number, read: CapturedConfig['read']): SysfsBar[] {
  const bars: SysfsBar[] = [];
  let next = 0;
  for (const line of lines) {
    const match = REGION.exec(line);
    if (match === null || ROM.test(line)) continue;
    const [, number, what, kindText = ''] = match;
    let index = next;
    // A region without a number is the next register other than 0.
    if (number !== undefined) index = Number(number);
    else while (index < PCI_STD_NUM_BARS - 1 && read(PCI_BASE_ADDRESS_0 + 4 * index, 4) === 0) index += 1;
    const legacy = legacyIdeSize(line, index, classCode);
    const is64 = kindText.startsWith('64-bit');
    const memory = is64 ? 'mem64' : 'mem32';
    const isIo = what === 'I/O ports' || legacy > 0;
    const sizeBytes = sizeOf(line) || legacy;
    next = index + (is64 ? 2 : 1);
    if (sizeBytes === 0 || index >= PCI_STD_NUM_BARS) continue;
    const prefetchable = !isIo && / prefetchable/.test(kindText);
    bars.push({ index, kind: isIo ? 'io' : memory, prefetchable, sizeBytes });
  }
  return bars;
}

/**
 * Returns the size of an IDE controller's port region in compatibility mode; 0 for all other regions. Such a region
 * lacks a register, and lspci takes its address for memory. Each channel has 8 command ports and 1 control port.
 */
function legacyIdeSize(line: string, index: number, classCode: number): number {
  const isCompatible = (classCode & (index < 2 ? 1 : 4)) === 0;
  if (classCode >> 8 !== 0x0101 || index > 3 || !isCompatible || !line.includes('[virtual]')) return 0;
  return index % 2 === 0 ? 8 : 1;
}

function sizeOf(line: string): number {
  const match = SIZE.exec(line);
  return match === null ? 0 : Number(match[1]) * UNITS[match[2]];
}

/** A virtual function reads ffff for its ids. The physical function with its routing id has the real ones. */
function withPhysfn(device: LspciDevice, all: readonly LspciDevice[]): LspciDevice {
  const config = new CapturedConfig(device.config);
  if (config.read(PCI_VENDOR_ID, 2) !== 0xffff) return device;
  for (const physfn of all) {
    const sriov = sriovOf(physfn);
    if (sriov === null || !sriov.routingIds.has(routingId(device.bdf)) || domain(physfn) !== domain(device)) continue;
    return { ...device, vendor: physfn.vendor, device: sriov.vfDevice, physfn: physfn.bdf };
  }
  return device;
}

function sriovOf({ bdf, config: dump }: SysfsPciDevice): { routingIds: Set<number>; vfDevice: number } | null {
  const config = new CapturedConfig(dump);
  const at = capabilitiesOf(config).find(({ id, extended }) => extended && id === PCI_EXT_CAP_ID_SRIOV)?.offset;
  if (at === undefined) return null;
  const first = routingId(bdf) + config.read(at + PCI_SRIOV_VF_OFFSET, 2);
  const stride = config.read(at + PCI_SRIOV_VF_STRIDE, 2);
  const total = config.read(at + PCI_SRIOV_TOTAL_VF, 2);
  const routingIds = new Set(Array.from({ length: total }, (_, i) => first + i * stride));
  return { routingIds, vfDevice: config.read(at + PCI_SRIOV_VF_DID, 2) };
}

function capabilitiesOf(config: CapturedConfig): ReturnType<CapturedConfig['capabilities']> {
  try {
    return config.capabilities();
  } catch (error) {
    // The capture reports the faulty list later.
    if (error instanceof CapabilityListError) return [];
    throw error;
  }
}

/** Returns bus, device and function as one number, which counts virtual functions. */
function routingId(bdf: string): number {
  const [, bus, device, fn] = /:(..):(..)\.(.)$/.exec(bdf)!;
  return (Number.parseInt(bus, 16) << 8) | (Number.parseInt(device, 16) << 3) | Number(fn);
}

function domain({ bdf }: SysfsPciDevice): string {
  return bdf.slice(0, bdf.indexOf(':'));
}
