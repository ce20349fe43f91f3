import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IOAT_PCI_CHANERR_INT_OFFSET, IOAT_PCI_CHANERRMASK_INT_OFFSET } from '../../src/abi/ioat.ts';
import {
  PCI_CAP_ID_SLOTID,
  PCI_CAP_ID_VNDR,
  PCI_CAP_ID_VPD,
  PCI_EXT_CAP_ID_DVSEC,
  PCI_EXT_CAP_ID_VNDR,
} from '../../src/abi/pci_regs.ts';
import { PCI_VPD_ADDR, PCI_VPD_ADDR_F, PCI_VPD_DATA } from '../../src/abi/pci_regs-cap.ts';
import { listPciDevices, readPciDevice, type SysfsPciDevice } from '../../src/linux/sysfs.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { captureMachine } from '../../src/machine/capture.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { DocumentError } from '../../src/machine/yaml.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import { Vpd } from '../../src/pci/vpd.ts';
import { runner } from '../../src/task/runner.ts';
import { machine } from './arbitrary-machine.ts';

/**
 * A made-up device: PM at 0x40, MSI-X at 0x50, one BAR of each kind, captured with memory on and a BAR address in it.
 */
function device(configBytes: number): SysfsPciDevice {
  const config = Buffer.alloc(configBytes);
  config.writeUInt16LE(0x1234, 0);
  config.writeUInt16LE(0xabcd, 2);
  config.writeUInt16LE(0x0006, 4);
  config.writeUInt16LE(0x0010, 6);
  config.writeUInt32LE(0x0b400005, 8);
  config.writeUInt32LE(0xfebd000c, 0x10);
  config[0x34] = 0x40;
  if (configBytes > 64) {
    config.writeUInt32LE(0x00035001, 0x40);
    config.writeUInt32LE(0x80030011, 0x50);
    config.writeUInt32LE(0x00000002, 0x54);
  }
  return {
    bdf: '0000:07:00.1',
    config,
    vendor: 0x1234,
    device: 0xabcd,
    classCode: 0x0b4000,
    bars: [
      { index: 0, kind: 'mem64', prefetchable: true, sizeBytes: 2 ** 33 },
      { index: 2, kind: 'mem32', prefetchable: false, sizeBytes: 4096 },
      { index: 4, kind: 'io', prefetchable: false, sizeBytes: 32 },
    ],
    romSizeBytes: 65536,
    iommuGroup: null,
    driver: 'foo',
    physfn: null,
    vpd: null,
  };
}

test('a captured device is built again with its ids, capabilities and BARs, switched off', () => {
  const captured = device(4096);
  const text = captureMachine([captured]);
  const fn = [...buildMachine(parseMachine(text, 'captured.yaml')).functions.values()][0];
  assert.deepEqual([fn.vendorId, fn.deviceId, fn.classCode, fn.romSizeBytes], [0x1234, 0xabcd, 0x0b4000, 65536]);
  assert.deepEqual(
    fn.bars.map((bar) => bar && [bar.kind, bar.prefetchable, bar.sizeBytes]),
    [['mem64', true, 2 ** 33], null, ['mem32', false, 4096], null, ['io', false, 32], null],
  );
  assert.deepEqual(
    fn.config.capabilities().map(({ id, offset }) => [id, offset]),
    [
      [0x01, 0x40],
      [0x11, 0x50],
    ],
  );
  assert.equal(fn.config.read(4, 2), 0);
  // MSI-X was enabled during the capture. The served device starts as after a reset.
  assert.equal(fn.config.read(0x52, 2), 0x0003);
});

test('a capture without root says what is missing', () => {
  const text = captureMachine([device(64)]);
  assert.match(text, /^# 0000:07:00.1: only 64 bytes of config space could be read/);
  const fn = [...buildMachine(parseMachine(text, 'captured.yaml')).functions.values()][0];
  assert.equal(fn.vendorId, 0x1234);
});

test('every PCI device of this machine can be captured and built (machines without PCI have none)', () => {
  for (const address of listPciDevices()) {
    const found = readPciDevice(address);
    const fn = [...buildMachine(parseMachine(captureMachine([found]), address)).functions.values()][0];
    assert.deepEqual([fn.vendorId, fn.deviceId], [found.vendor, found.device], address);
    assert.deepEqual(
      fn.bars.flatMap((bar) => (bar === null ? [] : [bar.sizeBytes])),
      found.bars.map((bar) => bar.sizeBytes),
      address,
    );
  }
});

/** Vital product data as Linux reads them: by the registers of the capability, until their end. */
function vpdThrough(fn: PciFunction): Uint8Array | null {
  const at = fn.config.find(PCI_CAP_ID_VPD);
  if (at === 0) return null;
  const bytes = Buffer.alloc(1024);
  for (let address = 0; address < bytes.length; address += 4) {
    runner.run(fn.configWrite(at + PCI_VPD_ADDR, 2, address));
    if (fn.configRead(at + PCI_VPD_ADDR, 2) !== (address | PCI_VPD_ADDR_F)) return null;
    bytes.writeUInt32LE(fn.configRead(at + PCI_VPD_DATA, 4), address);
  }
  return Vpd.dataOf(bytes);
}

/** The device as sysfs would show it now: its registers, its BAR sizes, and the ids that the kernel knows. */
function shownBySysfs(fn: PciFunction, bdf = '0000:01:00.0'): SysfsPciDevice {
  return {
    bdf,
    config: fn.config.snapshot(),
    vendor: fn.vendorId,
    device: fn.deviceId,
    classCode: fn.classCode,
    bars: fn.bars.flatMap((bar) =>
      bar === null
        ? []
        : [{ index: bar.index, kind: bar.kind, prefetchable: bar.prefetchable, sizeBytes: bar.sizeBytes }],
    ),
    romSizeBytes: fn.romSizeBytes,
    iommuGroup: null,
    driver: null,
    physfn: null,
    vpd: vpdThrough(fn),
  };
}

/** Config space without the parts that depend on the place in the machine: BAR addresses, and a VF's own ids. */
function registers(fn: PciFunction): string {
  const bytes = Buffer.from(fn.config.snapshot());
  bytes.fill(0, 0x10, 0x28);
  bytes.writeUInt16LE(fn.vendorId, 0);
  bytes.writeUInt16LE(fn.deviceId, 2);
  return bytes.toString('hex');
}

/** The offsets, in hexadecimal, at which two config spaces differ. */
function differing(a: string, b: string): string[] {
  const places = Array.from({ length: Math.max(a.length, b.length) / 2 }, (_, i) => i);
  return places
    .filter((i) => a.slice(2 * i, 2 * i + 2) !== b.slice(2 * i, 2 * i + 2))
    .map((i) => `${i.toString(16)}: ${a.slice(2 * i, 2 * i + 2)} for ${b.slice(2 * i, 2 * i + 2)}`);
}

/**
 * Sets every bit that a driver can set in a used device's registers. The I/OAT engine's own registers are outside all
 * capabilities, so a capture cannot know them.
 */
function use(fn: PciFunction): void {
  for (let at = 0; at < fn.config.sizeBytes; at += 4) {
    const isOwn = at >= IOAT_PCI_CHANERR_INT_OFFSET && at <= IOAT_PCI_CHANERRMASK_INT_OFFSET;
    if (!isOwn && (at < 0x10 || at >= 0x28)) fn.config.write(at, 4, 0xffffffff);
  }
}

const captureAgain = (fn: PciFunction): PciFunction =>
  [...buildMachine(parseMachine(captureMachine([shownBySysfs(fn)]), 'again.yaml')).functions.values()][0];

test('a device of any machine file, captured at rest or in use, is the same device when it is built again', () => {
  let devices = 0;
  const property = fc.property(machine, fc.boolean(), (object, isInUse) => {
    let functions: ReadonlyMap<string, PciFunction>;
    try {
      functions = buildMachine(parseMachine(JSON.stringify(object), 'first.yaml')).functions;
    } catch (error) {
      if (error instanceof DocumentError) return;
      throw error;
    }
    for (const fn of functions.values()) {
      // Registers that are the device's own storage keep their content.
      const keeps = [PCI_CAP_ID_VPD, PCI_CAP_ID_VNDR, PCI_CAP_ID_SLOTID].some((id) => fn.config.find(id) !== 0);
      const keepsMore = [PCI_EXT_CAP_ID_VNDR, PCI_EXT_CAP_ID_DVSEC].some((id) => fn.config.findExt(id) !== 0);
      const atRest = registers(fn);
      if (isInUse && !keeps && !keepsMore) use(fn);
      const again = captureAgain(fn);
      assert.deepEqual(differing(registers(again), atRest), []);
      assert.deepEqual(
        again.bars.map((bar) => bar && [bar.kind, bar.prefetchable, bar.sizeBytes]),
        fn.bars.map((bar) => bar && [bar.kind, bar.prefetchable, bar.sizeBytes]),
      );
      assert.deepEqual(vpdThrough(again), vpdThrough(fn));
      // A driver can still write everything that it could write before.
      use(fn);
      use(again);
      const [before, now] = [fn.config.snapshot(), again.config.snapshot()];
      for (let at = 0x40; at < before.length; at++) assert.equal(before[at] & ~now[at], 0, `byte 0x${at.toString(16)}`);
      devices += 1;
    }
  });
  fc.assert(property, { numRuns: 300 });
  assert.ok(devices > 100, `${devices} devices`);
});

test('vital product data answer with what was captured, and a capture without them says so', () => {
  const config = Buffer.from(device(256).config);
  config.writeUInt32LE(0x00036001, 0x40);
  config.writeUInt32LE(0x0003, 0x60);
  const data = Buffer.from('82040042617274910700525704000000007800ffff', 'hex');
  const whole = captureMachine([{ ...device(256), config, vpd: data }]);
  assert.ok(!whole.includes('vital product data could not'), whole);
  const fn = [...buildMachine(parseMachine(whole, 'captured.yaml')).functions.values()][0];
  assert.deepEqual(Buffer.from(vpdThrough(fn)!), data.subarray(0, 18));
  // The system's own field is written as on the device, and the rest stays.
  runner.run(fn.configWrite(0x64, 4, 0x01020304));
  runner.run(fn.configWrite(0x62, 2, 0x800c));
  assert.equal(Buffer.from(vpdThrough(fn)!).toString('hex', 12, 18), '040302010078');
  for (const vpd of [null, data.subarray(0, 17)]) {
    const text = captureMachine([{ ...device(256), config, vpd }]);
    assert.match(text, /^# 0000:07:00.1: its vital product data could not be read, .*from sysfs as root for them\.$/m);
    const mute = [...buildMachine(parseMachine(text, 'captured.yaml')).functions.values()][0];
    assert.equal(vpdThrough(mute), null);
  }
});

/** [capability, its bytes, a register in it, its value in use, its value when the device is served]. */
const AFTER_RESET: [string, number, 1 | 2 | 4, number, number][] = [
  ['01', 0x04, 2, 0x8103, 0x0000],
  ['05', 0x02, 2, 0x01b1, 0x0180],
  ['05', 0x10, 4, 0xffffffff, 0xfffffffe],
  ['07', 0x02, 2, 0x007f, 0x0002],
  ['10', 0x08, 2, 0x5fff, 0x2810],
  ['10', 0x0a, 2, 0x003f, 0x0010],
  ['10', 0x10, 2, 0x01cb, 0x0000],
  ['10', 0x28, 2, 0x0410, 0x0000],
  ['10', 0x30, 2, 0x0013, 0x0000],
  ['11', 0x02, 2, 0xc003, 0x0003],
  ['13', 0x05, 1, 0x01, 0x00],
  ['x01', 0x04, 4, 0x00100000, 0],
  ['x01', 0x0c, 4, 0x07ffffff & 0x07fff030, 0x00462030],
  ['x01', 0x10, 4, 0x00002001, 0],
  ['x0d', 0x06, 2, 0x005f, 0],
  ['x0f', 0x06, 2, 0x8001, 0],
  ['x10', 0x08, 2, 0x0019, 0],
  ['x10', 0x10, 2, 0x0004, 0],
  ['x10', 0x20, 4, 0x00000002, 1],
  ['x12', 0x06, 2, 0x8001, 0],
  ['x13', 0x04, 2, 0x0001, 0],
  ['x13', 0x0c, 4, 0x00000020, 0],
  ['x17', 0x08, 4, 0x00000101, 0],
  ['x18', 0x04, 2, 0x1003, 0],
  ['x1b', 0x06, 2, 0x0001, 0],
  ['x1e', 0x08, 4, 0x0000000f, 0],
  ['x1f', 0x08, 4, 0x00000001, 0],
];

for (const [capability, offset, size, inUse, served] of AFTER_RESET) {
  test(`capability ${capability}: the register at 0x${offset.toString(16)} is off when it is served`, () => {
    const config = Buffer.alloc(4096);
    config.writeUInt32LE(0x15338086, 0);
    const isExtended = capability.startsWith('x');
    const at = isExtended ? 0x100 : 0x40;
    const id = Number.parseInt(capability.replace('x', ''), 16);
    if (isExtended) config.writeUInt32LE(0x10000 | id, at);
    else {
      config[6] = 0x10;
      config[0x34] = at;
      config[at] = id;
      // Express of version 2, 32 vectors of MSI with masks; every device can do PME.
      config.writeUInt16LE(id === 0x10 ? 2 : id === 0x05 ? 0x0180 : 0xf803, at + 2);
      if (id === 0x11) config.writeUInt16LE(3, at + 2);
    }
    if (id === 0x0d) config.writeUInt16LE(0x005f, at + 4);
    config.writeUIntLE(inUse, at + offset, size);
    const bars: SysfsPciDevice['bars'] = [{ index: 0, kind: 'mem32', prefetchable: false, sizeBytes: 4096 }];
    if (id === 0x11) config.writeUInt32LE(0x800, at + 8);
    const text = captureMachine([{ ...device(64), bars, config, romSizeBytes: 0 }]);
    const fn = [...buildMachine(parseMachine(text, 'captured.yaml')).functions.values()][0];
    assert.equal(fn.config.read(at + offset, size), served);
  });
}
