/** A machine file from real devices, as sysfs or lspci shows them: config space, and the sizes of BARs. */
import { stringify } from 'yaml';
import { PCI_STD_HEADER_SIZEOF, PCI_VENDOR_ID } from '../abi/pci_regs.ts';
import type { SysfsPciDevice } from '../linux/sysfs.ts';
import { CapturedConfig } from './captured-config.ts';
import { findBarProblem } from './check/bars.ts';
import { type CapturedDescription, findCapturedProblem, whyNotServable } from './check/captured.ts';
import { formatConfigText } from './config-text.ts';
import { sizeText } from './size-text.ts';

/** A bus has 32 devices; below a switch are as many ports. */
const MAX_ROOT_PORTS = 31;
const MAX_DOWNSTREAM_PORTS = 32;

/** A device that cannot be captured; the message says why, and what to do. */
export class CaptureError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CaptureError';
  }
}

/**
 * The text of a machine with these devices, each slot below a port of its own, virtual functions beside their physical
 * one. What is behind the BARs is not captured: served, they are plain memory. Of several devices those that cannot be
 * served are left out, with the reason in a comment; CaptureError where nothing is left.
 */
export function captureMachine(devices: readonly SysfsPciDevice[]): string {
  const servable = [...devices].sort(byAddress).filter((device) => whyLeftOut(device) === null);
  const left = devices.filter((device) => !servable.includes(device)).map((one) => `${one.bdf}: ${whyLeftOut(one)}`);
  if (servable.length === 0) throw new CaptureError(left.join('; ') || 'there is no device');
  const bdfs = new Set(servable.map(({ bdf }) => bdf));
  const physfnOf = ({ physfn }: SysfsPciDevice) => (physfn !== null && bdfs.has(physfn) ? physfn : null);
  const slots = [...new Set(servable.map((device) => slotOf(physfnOf(device) ?? device.bdf)))];
  const ports = portsFor(slots.length);
  const description = {
    machine: servable.length === 1 ? nameOf(servable[0].bdf) : 'captured',
    description: `captured from ${servable.map(titleOf).join(', ')}`,
    ports: ports.all,
    devices: servable.map((device) => {
      const physfn = physfnOf(device);
      return { ...describe(device, physfn), port: ports.slots[slots.indexOf(slotOf(physfn ?? device.bdf))] };
    }),
  };
  const comments = [...left.map((reason) => `# Left out: ${reason}`), ...servable.flatMap(notes)];
  return `${comments.map((line) => `${line}\n`).join('')}${stringify(description, { lineWidth: 0 })}`;
}

/** Physical functions first, since virtual ones follow them; else by address. */
function byAddress(a: SysfsPciDevice, b: SysfsPciDevice): number {
  return Number(a.physfn !== null) - Number(b.physfn !== null) || (a.bdf < b.bdf ? -1 : Number(a.bdf > b.bdf));
}

function whyLeftOut(device: SysfsPciDevice): string | null {
  const reason = whyNotServable(device.config);
  if (reason !== null) return reason;
  const description = { ...describe(device, null), port: 'root' } as unknown as CapturedDescription;
  const bars = device.bars.map((bar) => ({ ...bar, size: bar.sizeBytes }));
  const checked = { ...description, bars, romSize: device.romSizeBytes || undefined };
  return (findBarProblem(bars, false) ?? findCapturedProblem(checked))?.message ?? null;
}

/** The ids stand beside config space where that does not tell them, as in a virtual function. */
function describe(device: SysfsPciDevice, physfn: string | null): Record<string, unknown> {
  const { bdf, config, bars, romSizeBytes, vendor, device: id } = device;
  const isMute = new CapturedConfig(config).read(PCI_VENDOR_ID, 2) === 0xffff;
  return {
    name: nameOf(bdf),
    model: 'captured',
    ...(physfn !== null ? { physfn: nameOf(physfn) } : {}),
    ...(physfn === null && isMute ? { vendor, device: id } : {}),
    config: formatConfigText(config),
    bars: bars.map(({ index, kind, prefetchable, sizeBytes }) => ({
      index,
      kind,
      prefetchable,
      size: sizeOf(sizeBytes),
    })),
    ...(romSizeBytes > 0 ? { romSize: sizeOf(romSizeBytes) } : {}),
  };
}

/** Text where a unit divides it, else the number of bytes. */
function sizeOf(bytes: number): number | string {
  return bytes % 1024 === 0 ? sizeText(bytes) : bytes;
}

/** Root ports, or switches below root ports where there are more slots than root ports. */
function portsFor(count: number): { all: object[]; slots: string[] } {
  if (count === 1) return { all: [{ name: 'root', kind: 'root' }], slots: ['root'] };
  const names = Array.from({ length: count }, (_, i) => `slot${i}`);
  if (count <= MAX_ROOT_PORTS) return { all: names.map((name) => ({ name, kind: 'root' })), slots: names };
  const all = names.flatMap((name, i) => {
    const number = Math.floor(i / MAX_DOWNSTREAM_PORTS);
    const port = { name, kind: 'downstream', parent: `switch${number}` };
    if (i % MAX_DOWNSTREAM_PORTS !== 0) return [port];
    const root = { name: `root${number}`, kind: 'root' };
    return [root, { name: `switch${number}`, kind: 'upstream', parent: root.name }, port];
  });
  return { all, slots: names };
}

function nameOf(bdf: string): string {
  return `pci-${bdf.replaceAll(':', '-')}`;
}

/** Bus and device: its functions are one card. */
function slotOf(bdf: string): string {
  return bdf.slice(0, bdf.lastIndexOf('.'));
}

function titleOf({ bdf, driver }: SysfsPciDevice): string {
  return driver === null ? bdf : `${bdf} (${driver})`;
}

function notes({ bdf, config }: SysfsPciDevice): string[] {
  if (config.length > PCI_STD_HEADER_SIZEOF) return [];
  const missing = `# ${bdf}: only ${config.length} bytes of config space could be read, and its capabilities are missing.`;
  return [`${missing} Capture again as root for all of them.`];
}
