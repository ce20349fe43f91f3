/** Makes a machine file from real devices in sysfs or lspci: their config space, and the sizes of their BARs. */
import { stringify } from 'yaml';
import { PCI_CAP_ID_VPD, PCI_STD_HEADER_SIZEOF, PCI_VENDOR_ID } from '../abi/pci_regs.ts';
import type { SysfsPciDevice } from '../linux/sysfs.ts';
import { Vpd } from '../pci/vpd.ts';
import { CapturedConfig } from './captured-config.ts';
import { findBarProblem } from './check/bars.ts';
import { type CapturedDescription, findCapturedProblem, whyNotServable } from './check/captured.ts';
import { formatConfigText } from './config-text.ts';
import { sizeText } from './size-text.ts';

/** A bus has 32 devices. The host bridge takes one on bus 0; the bus inside a switch has all for its ports. */
const MAX_ROOT_PORTS = 31;
const MAX_DOWNSTREAM_PORTS = 32;

/**
 * A device to capture. `problem` says why what is known of it is not enough. `name` names one that is not on this
 * machine's buses; its address is made up.
 */
export type CapturedSource = SysfsPciDevice & { problem?: string | null; name?: string };

/** A device that cannot be captured. The message says why, and the next step. */
export class CaptureError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'CaptureError';
  }
}

/**
 * Returns the text of a machine with these devices. Each slot is below a port of its own, with virtual functions beside
 * their physical one. The content of the BARs is not captured: the server gives them plain memory. Devices that cannot
 * be served are left out, with the reason in a comment. CaptureError where none is left.
 */
export function captureMachine(devices: readonly CapturedSource[]): string {
  const servable = [...devices].sort(byAddress).filter((device) => whyLeftOut(device) === null);
  const left = devices
    .filter((device) => !servable.includes(device))
    .map((one) => `${labelOf(one)}: ${whyLeftOut(one)}`);
  if (servable.length === 0) throw new CaptureError(left.join('; ') || 'there is no device');
  const names = new Map(servable.map((device) => [device.bdf, nameOf(device)]));
  const physfnOf = ({ physfn }: SysfsPciDevice) => (physfn !== null && names.has(physfn) ? physfn : null);
  const slots = [...new Set(servable.map((device) => slotOf(physfnOf(device) ?? device.bdf)))];
  const ports = portsFor(slots.length);
  const description = {
    machine: servable.length === 1 ? nameOf(servable[0]) : 'captured',
    description: `captured from ${servable.map(titleOf).join(', ')}`,
    ports: ports.all,
    devices: servable.map((device) => {
      const physfn = physfnOf(device);
      return {
        ...describe(device, physfn === null ? null : names.get(physfn)!),
        port: ports.slots[slots.indexOf(slotOf(physfn ?? device.bdf))],
      };
    }),
  };
  const comments = [...left.map((reason) => `# Left out: ${reason}`), ...servable.flatMap(notes)];
  return `${comments.map((line) => `${line}\n`).join('')}${stringify(description, { lineWidth: 0 })}`;
}

/** Sorts physical functions first, since virtual ones follow them; else by address. */
function byAddress(a: SysfsPciDevice, b: SysfsPciDevice): number {
  return Number(a.physfn !== null) - Number(b.physfn !== null) || (a.bdf < b.bdf ? -1 : Number(a.bdf > b.bdf));
}

function whyLeftOut(device: CapturedSource): string | null {
  const reason = device.problem ?? whyNotServable(device.config);
  if (reason !== null) return reason;
  const description = { ...describe(device, null), port: 'root' } as unknown as CapturedDescription;
  const bars = device.bars.map((bar) => ({ ...bar, size: bar.sizeBytes }));
  const checked = { ...description, bars, romSize: device.romSizeBytes || undefined };
  return (findBarProblem(bars, false) ?? findCapturedProblem(checked))?.message ?? null;
}

/** Writes the ids beside config space where it lacks them, as in a virtual function. */
function describe(device: CapturedSource, physfn: string | null): Record<string, unknown> {
  const { config, bars, romSizeBytes, vendor, device: id, vpd } = device;
  const data = vpd === null ? null : Vpd.dataOf(vpd);
  const isMute = new CapturedConfig(config).read(PCI_VENDOR_ID, 2) === 0xffff;
  return {
    name: nameOf(device),
    model: 'captured',
    ...(physfn !== null ? { physfn } : {}),
    ...(physfn === null && isMute ? { vendor, device: id } : {}),
    config: formatConfigText(config),
    bars: bars.map(({ index, kind, prefetchable, sizeBytes }) => ({
      index,
      kind,
      prefetchable,
      size: sizeOf(sizeBytes),
    })),
    ...(data !== null ? { vpd: formatConfigText(data) } : {}),
    ...(romSizeBytes > 0 ? { romSize: sizeOf(romSizeBytes) } : {}),
  };
}

/** Returns text where a unit divides the size, else the number of bytes. */
function sizeOf(bytes: number): number | string {
  return bytes % 1024 === 0 ? sizeText(bytes) : bytes;
}

/** Returns root ports, or switches below root ports when there are more slots than root ports. */
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

function nameOf({ bdf, name }: CapturedSource): string {
  return name ?? `pci-${bdf.replaceAll(':', '-')}`;
}

function labelOf({ bdf, name }: CapturedSource): string {
  return name ?? bdf;
}

/** Returns bus and device. The functions there are one card. */
function slotOf(bdf: string): string {
  return bdf.slice(0, bdf.lastIndexOf('.'));
}

function titleOf(device: CapturedSource): string {
  return device.driver === null ? labelOf(device) : `${labelOf(device)} (${device.driver})`;
}

function notes({ bdf, config, vpd }: SysfsPciDevice): string[] {
  if (config.length <= PCI_STD_HEADER_SIZEOF) {
    const missing = `# ${bdf}: only ${config.length} bytes of config space could be read, and its capabilities are missing.`;
    return [`${missing} Capture again as root for all of them.`];
  }
  const hasData = vpd !== null && Vpd.dataOf(vpd) !== null;
  if (hasData || !new CapturedConfig(config).hasCapability(PCI_CAP_ID_VPD)) return [];
  const missing = `# ${bdf}: its vital product data could not be read, and their capability does not answer.`;
  return [`${missing} Capture from sysfs as root for them.`];
}
