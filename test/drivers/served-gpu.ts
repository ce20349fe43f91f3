/** The driver of a virtio GPU, as a client of a device that another process serves. */
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../../src/abi/pci_regs.ts';
import {
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../../src/abi/vfio.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../src/abi/vfio-user.ts';
import type { VirtioFunction } from '../../src/drivers/virtio.ts';
import { QUEUE_BYTES, VirtioGpuDriver } from '../../src/drivers/virtio-gpu.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { Mapping } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { CapturedConfig } from '../../src/machine/captured-config.ts';
import type { InterruptSink } from '../../src/pci/function.ts';
import type { Task } from '../../src/task/op.ts';
import { Runner } from '../../src/task/runner.ts';
import { VfioUserClient } from '../../src/vfio-user/client/client.ts';

const RINGS = 0x10_0000;
/** Where the device finds `pixels`. */
export const SERVED_PIXELS = 0x100_0000;
/** Configuration changes, the control queue, the cursor queue. */
const VECTORS = [0, 1, 2];
const TIMEOUT_MS = 60_000;

/** Registers by messages, interrupts by eventfds. */
class ServedFunction implements VirtioFunction {
  readonly config: CapturedConfig;
  readonly bars: VirtioFunction['bars'];
  interrupts: InterruptSink | null = null;
  readonly eventfds = VECTORS.map((vector) => createEventfd(`MSI-X ${vector} of the GPU`));

  constructor(client: VfioUserClient) {
    const config = Buffer.alloc(client.regionInfo(VFIO_PCI_CONFIG_REGION_INDEX).sizeBytes);
    client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, 0, config);
    this.config = new CapturedConfig(config);
    this.bars = [0, 1, 2, 3, 4, 5].map((bar) => ({
      target: {
        read: (offset, into) => client.readRegion(bar, offset, into),
        write: (offset, from) => client.writeRegion(bar, offset, from),
      },
    }));
    const command = Buffer.from([PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0]);
    client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    const fds = this.eventfds.map(({ fd }) => fd);
    client.setIrqs(flags, VFIO_PCI_MSIX_IRQ_INDEX, 0, fds.length, undefined, fds);
  }
}

export class ServedGpu {
  readonly driver: VirtioGpuDriver;
  /** Memory that the device reads at SERVED_PIXELS. */
  readonly pixels: Mapping;
  private readonly client: VfioUserClient;
  private readonly fn: ServedFunction;
  private readonly rings: Mapping;
  private readonly runner = new Runner();

  constructor(socket: string, pixelBytes: number) {
    this.client = new VfioUserClient(socket);
    this.fn = new ServedFunction(this.client);
    this.rings = this.share('rings', RINGS, 2 * QUEUE_BYTES);
    this.pixels = this.share('pixels', SERVED_PIXELS, pixelBytes);
    this.driver = new VirtioGpuDriver(this.fn, this.rings, RINGS);
  }

  /** Runs a command of the control queue. Waits for its interrupt. */
  run<T>(task: Task<T>): T {
    const [, control] = this.fn.eventfds;
    const handle = this.runner.start('command', task);
    for (this.runner.drain(); !handle.ended; this.runner.drain()) {
      if (!this.client.waitFor(control.fd, TIMEOUT_MS)) throw new Error('the GPU does not answer');
      readEventfd(control.fd);
      this.runner.run(this.interrupted());
    }
    if (handle.state === 'failed') throw handle.error;
    return handle.result as T;
  }

  close(): void {
    this.client.close();
    for (const fd of this.fn.eventfds) fd.close();
    for (const memory of [this.rings, this.pixels]) memory.close();
  }

  private *interrupted(): Task {
    this.fn.interrupts!.msi(1);
  }

  private share(what: string, iova: number, sizeBytes: number): Mapping {
    const memfd = createMemfd(what, sizeBytes);
    const mapping = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes, writable: true, what });
    this.client.dmaMap(iova, sizeBytes, VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE, memfd.fd);
    memfd.close();
    return mapping;
  }
}
