/** A virtio GPU with its driver in one process, and memory that the device reaches. */
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../../src/abi/pci_regs.ts';
import type { VirtioGpu } from '../../src/device/virtio-gpu/gpu.ts';
import { QUEUE_BYTES, VirtioGpuDriver } from '../../src/drivers/virtio-gpu.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { IOMMU_READ, IOMMU_WRITE } from '../../src/pci/dma.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { enableMsi } from '../../src/pci/msi.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

/** Where the device finds the driver's rings, and memory for pixels. */
export const RINGS = 0x10_0000;
export const PIXELS = 0x100_0000;
export const PIXEL_BYTES = 0x10_0000;

export class GpuRig {
  readonly fn;
  readonly gpu: VirtioGpu;
  readonly domain = new IommuDomain('test');
  readonly rings = new ArrayMemory(2 * QUEUE_BYTES);
  readonly pixels = new ArrayMemory(PIXEL_BYTES);
  driver: VirtioGpuDriver;
  readonly broken: string[] = [];

  constructor(options = '', features: readonly number[] = []) {
    const machine = `{ machine: m, ports: [{ name: root, kind: root }],
      devices: [{ name: gpu, model: virtio-gpu, port: root, ${options} }] }`;
    const built = buildMachine(parseMachine(machine, 'm.yaml'));
    this.fn = built.functions.get('gpu')!;
    this.gpu = built.screens.get('gpu') as VirtioGpu;
    this.gpu.device.onBroken = (reason) => this.broken.push(reason);
    this.fn.iommuDomain = this.domain;
    const both = IOMMU_READ | IOMMU_WRITE;
    this.domain.map(RINGS, this.rings.sizeBytes, { kind: 'memory', memory: this.rings, offset: 0 }, both);
    this.domain.map(PIXELS, PIXEL_BYTES, { kind: 'memory', memory: this.pixels, offset: 0 }, IOMMU_READ);
    this.driver = this.start(features);
  }

  /** Starts a driver on a device that was reset. */
  start(features: readonly number[] = []): VirtioGpuDriver {
    this.run(this.fn.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER));
    this.run(enableMsi(this.fn, 'msix'));
    return new VirtioGpuDriver(this.fn, this.rings, RINGS, features);
  }

  /** Runs a command of the driver to its end. */
  run<T>(task: Task<T>): T {
    return runner.run(task);
  }
}
