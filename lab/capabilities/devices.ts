/**
 * Devices that together have every capability that vfio shows or hides. Their registers keep every write, so that a
 * guest's writes show.
 */
import type { DeviceIdentity, DeviceModel } from '../../src/device/model.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import type { CapabilitySpec } from '../../src/pci/capabilities.ts';
import type { ConfigSpace } from '../../src/pci/config-space.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import type { MemoryProvider } from '../../src/pci/memory.ts';

const ALL = 0xffffffff;
const BAR_BYTES = 0x4000;
/** Follows the first capability, vital product data, which `addCapabilities` places. */
const FIRST_STANDARD = 0x48;

interface CapabilityBody {
  readonly id: number;
  readonly bytes: number;
  /** Values of 4 bytes by offset. In the header's dword only the upper half counts. */
  readonly registers?: Readonly<Record<number, number>>;
  /** The writable bits of dwords, by offset. All bits of other dwords are writable. */
  readonly writable?: Readonly<Record<number, number>>;
}

export interface CapabilityDeviceSpec {
  readonly name: string;
  readonly standard: readonly CapabilityBody[];
  readonly extended: readonly CapabilityBody[];
}

const express: CapabilityBody = {
  id: 0x10,
  bytes: 0x3c,
  registers: { 0: 0x0002_0000 },
  writable: { 0: 0, 4: 0, 12: 0, 36: 0, 44: 0 },
};
const vendorBytes = (length: number): CapabilityBody => ({
  id: 0x09,
  bytes: length,
  registers: { 0: length << 16 },
  writable: { 0: 0xff00_0000 },
});
/** D3hot keeps the state, so the way back to D0 resets nothing. */
const power: CapabilityBody = {
  id: 0x01,
  bytes: 8,
  registers: { 0: 0xfe03_0000, 4: 0x0008 },
  writable: { 0: 0, 4: 0x1f03 },
};
const advancedFeatures: CapabilityBody = { id: 0x13, bytes: 8, registers: { 0: 0x0006_0000 }, writable: { 0: 0 } };
/** Four vectors; the table and the pending bits are at the end of the BAR. */
const msix: CapabilityBody = {
  id: 0x11,
  bytes: 12,
  registers: { 0: 0x0003_0000, 4: 0x2000, 8: 0x3000 },
  writable: { 0: 0xc000_0000, 4: 0, 8: 0 },
};
const vendorExtended = (id: number, length: number): CapabilityBody => ({
  id,
  bytes: length,
  registers: { 4: (length << 20) >>> 0 },
  writable: { 4: 0 },
});
const only = (id: number, bytes: number): CapabilityBody => ({ id, bytes });
const hidden = (ids: readonly number[], bytes: number): CapabilityBody[] => ids.map((id) => only(id, bytes));

export const CAPABILITY_DEVICES: readonly CapabilityDeviceSpec[] = [
  {
    name: 'shown',
    standard: [
      power,
      { id: 0x05, bytes: 24, registers: { 0: 0x0186_0000 }, writable: { 0: 0x0071_0000 } },
      vendorBytes(12),
      express,
      msix,
      advancedFeatures,
      only(0x08, 28),
      only(0x02, 12),
      { id: 0x12, bytes: 16, registers: { 4: 0xf }, writable: { 4: 0xffff_fff0 } },
    ],
    extended: [
      only(0x01, 0x48),
      { id: 0x02, bytes: 0x70, registers: { 4: 1, 8: 4 }, writable: { 4: 0, 8: 0 } },
      only(0x03, 12),
      only(0x04, 16),
      only(0x08, 0x1c),
      only(0x09, 0x1c),
      vendorExtended(0x0b, 0x18),
      { id: 0x0d, bytes: 16, registers: { 4: 0x2120 }, writable: { 4: 0xffff_0000 } },
      only(0x0e, 8),
      only(0x0f, 8),
      only(0x10, 0x40),
      only(0x12, 0x30),
      only(0x13, 16),
      { id: 0x16, bytes: 24, registers: { 4: 3 }, writable: { 4: 0xffff_ffe0 } },
      { id: 0x17, bytes: 20, registers: { 4: 0x0003_0200 }, writable: { 4: 0 } },
      only(0x18, 8),
      vendorExtended(0x23, 12),
      { id: 0x15, bytes: 20, registers: { 8: 0x40 }, writable: { 8: 0x3f00 } },
    ],
  },
  {
    name: 'hidden',
    standard: [power, express, ...hidden([0x00, 0x04, 0x06, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x14, 0x15, 0x20], 8)],
    extended: [
      ...hidden([0x05, 0x06, 0x07, 0x0a, 0x0c, 0x11, 0x14, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f], 16),
      only(0x03, 12),
      ...hidden([0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2f, 0x30, 0x31], 16),
      only(0x2e, 24),
      ...hidden([0x32, 0x33, 0x34], 16),
      only(0x18, 8),
    ],
  },
  {
    name: 'conventional',
    standard: [
      power,
      { id: 0x05, bytes: 12, registers: { 0: 0x0002_0000 }, writable: { 0: 0x0071_0000 } },
      { id: 0x07, bytes: 24, registers: { 0: 0x2000_0000 }, writable: { 0: 0x0fff_0000, 4: 0 } },
      { id: 0x08, bytes: 24, registers: { 0: 0x2000_0000 }, writable: { 0: 0x1fff_0000 } },
      only(0x12, 8),
      vendorBytes(8),
      advancedFeatures,
    ],
    extended: [],
  },
];

/** The name in each device's vital product data. */
export const VPD_NAME = 'Barter';
export const VPD_WRITABLE_BYTES = 16;

export class CapabilityDevice implements DeviceModel {
  readonly identity: DeviceIdentity = { vendorId: 0x1b36, deviceId: 0x0cab, classCode: 0x058000, revision: 1 };
  readonly capabilities: CapabilitySpec = { vpd: { name: VPD_NAME, writableBytes: VPD_WRITABLE_BYTES } };
  private readonly spec: CapabilityDeviceSpec;

  constructor(spec: CapabilityDeviceSpec) {
    this.spec = spec;
  }

  bars(memory: MemoryProvider): (Bar | null)[] {
    const target = new MemoryTarget(memory(`${this.spec.name}.bar0`, BAR_BYTES));
    return [new Bar(0, 'mem32', false, BAR_BYTES, target), null, null, null, null, null];
  }

  bind(fn: PciFunction): void {
    let at = FIRST_STANDARD;
    for (const body of this.spec.standard) {
      fn.config.addCapability(body.id, at);
      fill(fn.config, at, body, 0xffff);
      at += (body.bytes + 3) & ~3;
    }
    if (at > 0x100) throw new Error(`${this.spec.name}: the capabilities end at 0x${at.toString(16)}`);
    at = 0x100;
    for (const body of this.spec.extended) {
      fn.config.addExtended(body.id, 1, at);
      fill(fn.config, at, body, ALL);
      at += (body.bytes + 3) & ~3;
    }
  }
}

/** Fills a body's registers. `header` gives the bits of the first dword that belong to the list. */
function fill(
  config: ConfigSpace,
  at: number,
  { bytes, registers = {}, writable = {} }: CapabilityBody,
  header: number,
) {
  for (let offset = 0; offset < bytes; offset += 4) {
    const own = offset === 0 ? header : 0;
    const value = ((config.read(at + offset, 4) & own) | ((registers[offset] ?? 0) & ~own)) >>> 0;
    config.set(at + offset, 4, value);
    config.allow(at + offset, 4, ((writable[offset] ?? ALL) & ~own) >>> 0);
  }
}
