/** The PCI transport of virtio: its registers, what they accept, interrupts, resets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as abi from '../../../src/abi/virtio.ts';
import { VirtioDriver } from '../../../src/drivers/virtio.ts';
import { disableMsi } from '../../../src/pci/msi.ts';
import { runner } from '../../../src/task/runner.ts';
import { GpuRig, RINGS } from '../virtio-gpu-rig.ts';

const ISR = 0x1000;
const DEVICE = 0x2000;
const REGISTERS = 4;

function offered(driver: VirtioDriver): bigint {
  const words = [0, 1, 2].map((select) => {
    driver.set('device_feature_select', select);
    return BigInt(driver.get('device_feature'));
  });
  return words[0] | (words[1] << 32n) | (words[2] << 64n);
}

test('it offers its features, and refuses drivers without the two that it needs', () => {
  const rig = new GpuRig();
  const { virtio } = rig.driver;
  const bits = [1, 3, 28, 29, 32, 33];
  assert.equal(
    offered(virtio),
    bits.reduce((all, bit) => all | (1n << BigInt(bit)), 0n),
  );
  for (const [features, isTaken] of [
    [[32, 33], true],
    [[32], false],
    [[33], false],
    [[], false],
    [[32, 33, 0], false],
    [[32, 33, 40], false],
  ] as const) {
    virtio.set('device_status', 0);
    assert.equal(virtio.start(features), isTaken, `features ${features}`);
    assert.equal((virtio.get('device_status') & abi.VIRTIO_CONFIG_S_DRIVER_OK) !== 0, isTaken);
  }
});

test('a queue has the size that the driver chooses, and does not change once it is enabled', () => {
  const rig = new GpuRig();
  const { virtio } = rig.driver;
  virtio.set('device_status', 0);
  virtio.set('queue_select', 0);
  assert.equal(virtio.get('queue_size'), 64);
  for (const [written, read] of [
    [32, 32],
    [33, 32],
    [128, 32],
    [0, 32],
    [1, 1],
  ]) {
    virtio.set('queue_size', written);
    assert.equal(virtio.get('queue_size'), read, `${written}`);
  }
  virtio.set('queue_desc_hi', 0x1234);
  virtio.set('queue_enable', 1);
  virtio.set('queue_enable', 0);
  virtio.set('queue_size', 16);
  virtio.set('queue_desc_hi', 0x9999);
  assert.deepEqual([virtio.get('queue_enable'), virtio.get('queue_size'), virtio.get('queue_desc_hi')], [1, 1, 0x1234]);
  virtio.set('queue_select', 2);
  assert.deepEqual([virtio.get('queue_size'), virtio.get('queue_enable'), virtio.get('queue_notify_off')], [0, 0, 0]);
  virtio.set('queue_enable', 1);
  assert.equal(virtio.get('queue_enable'), 0);
});

test('a vector that does not exist reads back as none', () => {
  const { virtio } = new GpuRig().driver;
  for (const name of ['msix_config', 'queue_msix_vector'] as const) {
    virtio.set(name, 2);
    assert.equal(virtio.get(name), 2);
    virtio.set(name, 3);
    assert.equal(virtio.get(name), 0xffff);
  }
});

test('without MSI-X it asserts its line, until the driver reads the interrupt status', () => {
  const rig = new GpuRig('capabilities: { intx: true }');
  const levels: boolean[] = [];
  rig.fn.interrupts = { msi: () => assert.fail('a message'), intx: (level) => levels.push(level) };
  rig.run(disableMsi(rig.fn, 'msix'));
  runner.start('call', rig.driver.create2d(1, 1, 8, 8));
  runner.drain();
  assert.deepEqual(levels, [true]);
  const status = new Uint8Array(1);
  rig.fn.bars[REGISTERS]!.target.read(ISR, status);
  assert.equal(status[0], 1);
  assert.deepEqual(levels, [true, false]);
  rig.fn.bars[REGISTERS]!.target.read(ISR, status);
  assert.equal(status[0], 0);
});

test('the device configuration can be read in parts, and a change of it is told', () => {
  const rig = new GpuRig('scanouts: 5');
  const bytes = new Uint8Array(4);
  rig.fn.bars[REGISTERS]!.target.read(DEVICE + 8, bytes);
  assert.deepEqual([...bytes], [5, 0, 0, 0]);
  rig.fn.bars[REGISTERS]!.target.read(DEVICE + 14, bytes);
  assert.deepEqual([...bytes], [0, 0, 0, 0]);
  const vectors: number[] = [];
  rig.fn.interrupts = { msi: (vector) => vectors.push(vector), intx: () => {} };
  rig.driver.virtio.set('msix_config', 0);
  const before = rig.driver.virtio.get('config_generation');
  rig.gpu.device.configChanged();
  assert.deepEqual(vectors, [0]);
  assert.notEqual(rig.driver.virtio.get('config_generation'), before);
});

test('reads and writes anywhere in the registers, of any size, do no harm', () => {
  const rig = new GpuRig();
  const { target } = rig.fn.bars[REGISTERS]!;
  for (let offset = 0; offset < 0x4000; offset += 37) {
    for (const size of [1, 2, 3, 4, 8, 64]) {
      const bytes = new Uint8Array(Math.min(size, 0x4000 - offset)).fill(0xff);
      target.write(offset, bytes);
      target.read(offset, bytes);
    }
  }
  runner.drain();
});

test('a reset of the function takes the driver’s state away, and another driver starts over', () => {
  const rig = new GpuRig();
  assert.equal(rig.run(rig.driver.create2d(1, 1, 8, 8)), 0x1100);
  rig.run(rig.fn.hardwareReset());
  assert.equal(rig.driver.virtio.get('device_status'), 0);
  assert.equal(rig.gpu.resources.size, 0);
  rig.run(rig.fn.configWrite(4, 2, 6));
  const again = new VirtioDriver(rig.fn, rig.rings, RINGS);
  assert.ok(again.start([32, 33]));
});
