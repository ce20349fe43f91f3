/** The BARs of a virtio device through its config space. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_CAP_ID_VNDR } from '../../../src/abi/pci_regs.ts';
import { VIRTIO_PCI_CAP_PCI_CFG, virtio_pci_cap, virtio_pci_common_cfg } from '../../../src/abi/virtio_pci.ts';
import { runner } from '../../../src/task/runner.ts';
import { GpuRig } from '../virtio-gpu-rig.ts';

const REGISTERS = 4;
const DATA = virtio_pci_cap.sizeof;
const { device_status, num_queues, guest_feature } = virtio_pci_common_cfg.fields;

class Window {
  readonly rig = new GpuRig();
  private readonly at: number;

  constructor() {
    const { config } = this.rig.fn;
    const types = config.capabilities().filter(({ id }) => id === PCI_CAP_ID_VNDR);
    this.at = types.find(({ offset }) => config.read(offset + 3, 1) === VIRTIO_PCI_CAP_PCI_CFG)!.offset;
  }

  choose(bar: number, offset: number, length: number): void {
    this.config(virtio_pci_cap.fields.bar.offset, 1, bar);
    this.config(virtio_pci_cap.fields.offset.offset, 4, offset);
    this.config(virtio_pci_cap.fields.length.offset, 4, length);
  }

  read(size: 1 | 2 | 4): number {
    return this.rig.fn.configRead(this.at + DATA, size);
  }

  write(size: 1 | 2 | 4, value: number): void {
    this.config(DATA, size, value);
  }

  private config(offset: number, size: 1 | 2 | 4, value: number): void {
    runner.run(this.rig.fn.configWrite(this.at + offset, size, value));
  }
}

test('a driver reads and writes registers of each size through config space', () => {
  const window = new Window();
  window.choose(REGISTERS, num_queues.offset, 2);
  assert.equal(window.read(2), 2);
  window.choose(REGISTERS, device_status.offset, 1);
  assert.equal(window.read(1), window.rig.driver.virtio.get('device_status'));
  window.write(1, 0);
  assert.equal(window.rig.driver.virtio.get('device_status'), 0);
  window.choose(REGISTERS, guest_feature.offset, 4);
  window.write(4, 0xdeadbeef);
  assert.equal(window.read(4), 0xdeadbeef);
});

test('a place that a driver must not choose changes nothing', () => {
  const window = new Window();
  const status = window.rig.driver.virtio.get('device_status');
  for (const [bar, offset, length] of [
    [REGISTERS, device_status.offset, 0],
    [REGISTERS, device_status.offset, 3],
    [REGISTERS, device_status.offset - 1, 2],
    [REGISTERS, 0x4000, 4],
    [REGISTERS, 0xffff_fffc, 4],
    [5, device_status.offset, 1],
    [0xff, device_status.offset, 1],
  ]) {
    window.choose(bar, offset, length);
    window.write(4, 0);
    assert.equal(window.rig.driver.virtio.get('device_status'), status, `BAR ${bar}, ${length} bytes at ${offset}`);
  }
});
