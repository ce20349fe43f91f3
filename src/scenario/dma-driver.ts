/** What the driver of the small `dma` device does (device/dma.ts has its registers), from user space. */

import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../abi/pci_regs.ts';
import { POLLIN } from '../abi/poll.ts';
import {
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../abi/vfio.ts';
import {
  DMA_CONTROL,
  DMA_CONTROL_INTERRUPT,
  DMA_CONTROL_RUN,
  DMA_DESCRIPTOR_BYTES,
  DMA_ERROR,
  DMA_HEAD,
  DMA_RING,
  DMA_RING_ENTRIES,
  DMA_STATUS,
  DMA_STATUS_ERROR,
  DMA_TAIL,
} from '../device/dma.ts';
import { createEventfd, readEventfd } from '../linux/eventfd.ts';
import { pollOne } from '../linux/poll.ts';
import type { VfioUserClient } from '../vfio-user/client.ts';

const MOST_PER_DESCRIPTOR = 1 << 20;
const INTERRUPT_TIMEOUT_MS = 10_000;
const ERRORS = ['ok', 'unsupported request', 'IOMMU fault', 'bus master off'];

/** How a copy ended: 'ok', or what stopped the engine. */
export type CopyStatus = string;

export class DmaDriver {
  private readonly client: VfioUserClient;
  private readonly interrupt = createEventfd('MSI-X 0 of the DMA engine');
  private readonly word = Buffer.alloc(4);
  interrupts = 0;

  /** Switches memory, bus mastering and the engine's one MSI-X vector on. The client stays the caller's. */
  constructor(client: VfioUserClient) {
    this.client = client;
    const command = Buffer.alloc(2);
    client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    command.writeUInt16LE(command.readUInt16LE() | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.setIrqs(flags, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, undefined, [this.interrupt.fd]);
  }

  /** Copies between addresses as the device sees them, and waits for the interrupt at the end. */
  copy(source: number, destination: number, length: number): CopyStatus {
    for (let at = 0; at < length; ) {
      const batch = Math.min(length - at, (DMA_RING_ENTRIES - 1) * MOST_PER_DESCRIPTOR);
      const status = this.copyBatch(source + at, destination + at, batch);
      if (status !== 'ok') return status;
      at += batch;
    }
    return 'ok';
  }

  close(): void {
    this.interrupt.close();
  }

  private copyBatch(source: number, destination: number, length: number): CopyStatus {
    let index = this.get(DMA_HEAD);
    for (let at = 0; at < length; at += MOST_PER_DESCRIPTOR) {
      const descriptor = Buffer.alloc(DMA_DESCRIPTOR_BYTES);
      descriptor.writeBigUInt64LE(BigInt(source + at), 0);
      descriptor.writeBigUInt64LE(BigInt(destination + at), 8);
      descriptor.writeUInt32LE(Math.min(MOST_PER_DESCRIPTOR, length - at), 16);
      this.client.writeRegion(0, DMA_RING + index * DMA_DESCRIPTOR_BYTES, descriptor);
      index = (index + 1) % DMA_RING_ENTRIES;
    }
    this.set(DMA_CONTROL, DMA_CONTROL_RUN | DMA_CONTROL_INTERRUPT);
    this.set(DMA_TAIL, index);
    if (pollOne(this.interrupt.fd, POLLIN, INTERRUPT_TIMEOUT_MS) === 0) return 'no interrupt';
    this.interrupts += readEventfd(this.interrupt.fd);
    if ((this.get(DMA_STATUS) & DMA_STATUS_ERROR) === 0) return 'ok';
    const error = this.get(DMA_ERROR);
    // What the failed ring still holds is dropped, and the engine made ready again.
    this.set(DMA_TAIL, this.get(DMA_HEAD));
    this.set(DMA_STATUS, DMA_STATUS_ERROR);
    return ERRORS[error] ?? `error ${error}`;
  }

  private get(register: number): number {
    this.client.readRegion(0, register, this.word);
    return this.word.readUInt32LE();
  }

  private set(register: number, value: number): void {
    this.word.writeUInt32LE(value);
    this.client.writeRegion(0, register, this.word);
  }
}
