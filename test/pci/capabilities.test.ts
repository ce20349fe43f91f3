/** Capabilities as a device's description asks for them: their places, and the bits that software may write. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addCapabilities, type CapabilitySpec } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';

function made(spec: CapabilitySpec): ConfigSpace {
  const config = new ConfigSpace();
  addCapabilities(config, spec);
  return config;
}

/** The bits of a register that can be both one and zero. */
function writable(config: ConfigSpace, at: number, size: number): number {
  const before = config.read(at, size);
  const ones = config.write(at, size, 0xffffffff);
  const zeros = config.write(at, size, 0);
  config.set(at, size, before);
  return (ones & ~zeros) >>> 0;
}

const ALL: Required<CapabilitySpec> = {
  intx: true,
  pm: { d1: true, d2: true, noSoftReset: true },
  vpd: { name: 'x' },
  msi: { vectors: 8 },
  vendor: [Uint8Array.of(0, 0, 4, 0xab)],
  express: { flr: true },
  msix: { vectors: 5, bar: 2, tableOffset: 0x1000, pbaOffset: 0x1800 },
  af: true,
  sriov: { vfDevice: 0x1234 },
};

test('none asked for, none there; all asked for, all there, and none in the place of another', () => {
  assert.deepEqual(made({}).capabilities(), []);
  const config = made(ALL);
  const found = config.capabilities();
  assert.deepEqual(
    found.map(({ id }) => id),
    [0x01, 0x03, 0x05, 0x09, 0x10, 0x11, 0x13, 0x10],
  );
  const lengths = [8, 8, 14, 4, 0x3c, 12, 6];
  for (const [i, length] of lengths.slice(0, -1).entries()) {
    assert.ok(found[i].offset + length <= found[i + 1].offset);
  }
  assert.ok(found[6].offset + 6 <= 0x100);
  assert.equal(config.read(0x3d, 1), 1);
});

test('what each tells of the device', () => {
  const config = made(ALL);
  const [pm, , msi, vendor, express, msix, af, sriov] = config.capabilities().map(({ offset }) => offset);
  assert.equal(config.read(pm + 2, 2) & 0x0607, 0x0603);
  assert.equal(config.read(pm + 4, 2), 0x0008);
  assert.equal(config.read(msi + 2, 2), 0x0086);
  assert.deepEqual([config.read(vendor, 1), config.read(vendor + 2, 2)], [0x09, 0xab04]);
  assert.equal(config.read(express + 4, 4), 0x10000000);
  assert.deepEqual([config.read(msix + 2, 2), config.read(msix + 4, 4), config.read(msix + 8, 4)], [4, 0x1002, 0x1802]);
  assert.deepEqual([config.read(af + 2, 1), config.read(af + 3, 1)], [6, 3]);
  assert.equal(config.read(sriov + 0x1a, 2), 0x1234);
  const plain = made({ pm: {}, express: {} });
  assert.equal(plain.read(plain.find(1) + 2, 2), 3);
  assert.equal(plain.read(plain.find(0x10) + 4, 4), 0);
});

test('what software may write of each', () => {
  const config = made(ALL);
  const [pm, vpd, msi, vendor, express, msix] = config.capabilities().map(({ offset }) => offset);
  assert.equal(writable(config, pm + 4, 2), 3);
  assert.deepEqual([writable(config, vpd + 2, 2), writable(config, vpd + 4, 4)], [0xffff, 0xffffffff]);
  assert.deepEqual(
    [writable(config, msi + 2, 2), writable(config, msi + 4, 4), writable(config, msi + 12, 2)],
    [0x71, 0xfffffffc, 0xffff],
  );
  assert.equal(writable(config, vendor, 4), 0);
  assert.equal(writable(config, express + 8, 2), 0x7fff);
  assert.deepEqual([writable(config, msix + 2, 2), writable(config, msix + 4, 4)], [0xc000, 0]);
});
