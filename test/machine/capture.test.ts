import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listPciDevices, readPciDevice, type SysfsPciDevice } from '../../src/linux/sysfs.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { captureMachine } from '../../src/machine/capture.ts';
import { parseMachine } from '../../src/machine/load.ts';

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
  };
}

test('a captured device is built again with its ids, capabilities and BARs, switched off', () => {
  const captured = device(4096);
  const text = captureMachine(captured);
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
  // MSI-X was enabled while it was captured; served, the device starts as after reset.
  assert.equal(fn.config.read(0x52, 2), 0x0003);
});

test('a capture without root says what is missing', () => {
  const text = captureMachine(device(64));
  assert.match(text, /^# Only 64 bytes of config space could be read/);
  const fn = [...buildMachine(parseMachine(text, 'captured.yaml')).functions.values()][0];
  assert.equal(fn.vendorId, 0x1234);
});

test('every PCI device of this machine can be captured and built (machines without PCI have none)', () => {
  for (const address of listPciDevices()) {
    const found = readPciDevice(address);
    const fn = [...buildMachine(parseMachine(captureMachine(found), address)).functions.values()][0];
    assert.deepEqual([fn.vendorId, fn.deviceId], [found.vendor, found.device], address);
    assert.deepEqual(
      fn.bars.flatMap((bar) => (bar === null ? [] : [bar.sizeBytes])),
      found.bars.map((bar) => bar.sizeBytes),
      address,
    );
  }
});
