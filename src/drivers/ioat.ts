/**
 * A user-space driver of the I/OAT engine, by its registers (abi/ioat.ts). It uses channel 0, one chain at a time, with
 * an interrupt at the end of each.
 */
import { Errno } from '../abi/errno.ts';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESET,
  IOAT_CHANCNT_OFFSET,
  IOAT_CHANCTRL_ANY_ERR_ABORT_EN,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANERR_READ_DATA_ERR,
  IOAT_CHANERR_WRITE_DATA_ERR,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_ACTIVE,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_STATUS,
  IOAT_DESC_CTL_INT_EN,
  IOAT_INTRCTRL_MSIX_VECTOR_CONTROL,
  IOAT_INTRCTRL_OFFSET,
  IOAT_MMIO_BAR,
  IOAT_VER_OFFSET,
  IOAT_XFERCAP_OFFSET,
  ioat_dma_descriptor,
} from '../abi/ioat.ts';
import { PAGE_SIZE } from '../abi/mman.ts';
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../abi/pci_regs.ts';
import {
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from '../abi/vfio.ts';
import { VFIO_USER_F_DMA_REGION_READ } from '../abi/vfio-user.ts';
import { createEventfd, readEventfd } from '../linux/eventfd.ts';
import { Mapping } from '../linux/mapping.ts';
import { createMemfd } from '../linux/memfd.ts';
import type { VfioUserClient } from '../vfio-user/client/client.ts';

/** The descriptors' address for the device: far from the addresses that clients map. */
const RING_IOVA = 2 ** 46;
/** Descriptors of one chain. */
const RING_ENTRIES = PAGE_SIZE / ioat_dma_descriptor.sizeof;
const INTERRUPT_TIMEOUT_MS = 10_000;
/** A reset ends after the request under way. Each of these reads is a message. */
const MAX_RESET_READS = 100_000;
const ERRORS = new Map([
  [IOAT_CHANERR_READ_DATA_ERR, 'read data error'],
  [IOAT_CHANERR_WRITE_DATA_ERR, 'write data error'],
  [IOAT_CHANERR_CHAIN_ADDR_VALUE_ERR, 'chain address error'],
]);

/** One descriptor. Addresses are those that the device uses. */
export interface CopyRequest {
  readonly source: number;
  readonly destination: number;
  readonly length: number;
}

/** How a copy ended: 'ok', or the error that halted the channel. */
export type CopyStatus = string;

export class IoatDriver {
  private readonly client: VfioUserClient;
  private readonly interrupt = createEventfd('MSI-X 0 of the DMA engine');
  private readonly ring: Mapping;
  private readonly register = Buffer.alloc(8);
  private readonly bytesPerDescriptor: number;
  interrupts = 0;

  /**
   * Switches on memory, bus mastering and the channel's MSI-X vector. The client stays the caller's. ENODEV where the
   * device is not such an engine.
   */
  constructor(client: VfioUserClient) {
    this.client = client;
    const command = Buffer.alloc(2);
    client.readRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    command.writeUInt16LE(command.readUInt16LE() | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    client.writeRegion(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, command);
    this.demandEngine();
    const memfd = createMemfd('ioat ring', PAGE_SIZE);
    this.ring = Mapping.map({ fd: memfd.fd, offset: 0, sizeBytes: PAGE_SIZE, writable: true, what: 'ioat ring' });
    client.dmaMap(RING_IOVA, PAGE_SIZE, VFIO_USER_F_DMA_REGION_READ, memfd.fd);
    memfd.close();
    const flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.setIrqs(flags, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, undefined, [this.interrupt.fd]);
    this.set(IOAT_INTRCTRL_OFFSET, 1, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
    this.bytesPerDescriptor = 2 ** this.get(IOAT_XFERCAP_OFFSET, 1);
    this.reset();
  }

  /** The most bytes of one `submit`. */
  get mostBytes(): number {
    return RING_ENTRIES * this.bytesPerDescriptor;
  }

  /** Copies between addresses of the device, and waits for the interrupt at the end. */
  copy(source: number, destination: number, length: number): CopyStatus {
    for (let at = 0; at < length; at += this.mostBytes) {
      this.submit(source + at, destination + at, Math.min(length - at, this.mostBytes));
      const status = this.wait();
      if (status !== 'ok') return status;
    }
    return 'ok';
  }

  /** Waits for the interrupt of `submit`. Meanwhile answers the device's DMA to memory that only messages reach. */
  wait(timeoutMs = INTERRUPT_TIMEOUT_MS): CopyStatus {
    if (!this.client.waitFor(this.interrupt.fd, timeoutMs)) return 'no interrupt';
    this.interrupts += readEventfd(this.interrupt.fd);
    return this.takeStatus() ?? 'interrupted too early';
  }

  /** Starts a copy of at most `mostBytes`, and returns. */
  submit(source: number, destination: number, length: number): void {
    const parts: CopyRequest[] = [];
    for (let at = 0; at < length; at += this.bytesPerDescriptor) {
      const part = Math.min(this.bytesPerDescriptor, length - at);
      parts.push({ source: source + at, destination: destination + at, length: part });
    }
    this.submitChain(parts);
  }

  /** Starts copies in one chain, with an interrupt at its end, and returns. At most RING_ENTRIES, each of XFERCAP. */
  submitChain(copies: readonly CopyRequest[]): void {
    const count = copies.length;
    const { size, ctl, src_addr, dst_addr, next } = ioat_dma_descriptor.fields;
    const { view } = this.ring;
    for (const [i, { source, destination, length }] of copies.entries()) {
      const at = i * ioat_dma_descriptor.sizeof;
      size.set(view, at, length);
      ctl.set(view, at, i === count - 1 ? IOAT_DESC_CTL_INT_EN : 0);
      src_addr.set(view, at, source);
      dst_addr.set(view, at, destination);
      next.set(view, at, RING_IOVA + ((i + 1) % RING_ENTRIES) * ioat_dma_descriptor.sizeof);
    }
    const control = IOAT_CHANCTRL_INT_REARM | IOAT_CHANCTRL_ANY_ERR_ABORT_EN | IOAT_CHANCTRL_ERR_INT_EN;
    this.setChannel(IOAT_CHAINADDR_OFFSET, 8, RING_IOVA);
    this.setChannel(IOAT_CHANCTRL_OFFSET, 2, control);
    this.setChannel(IOAT_CHAN_DMACOUNT_OFFSET, 2, count);
  }

  /** Returns how the last copy ended, and readies the channel for the next; null while it is under way. */
  takeStatus(): CopyStatus | null {
    const state = this.getChannel(IOAT_CHANSTS_OFFSET, 8) & IOAT_CHANSTS_STATUS;
    if (state === IOAT_CHANSTS_ACTIVE) return null;
    const error = this.getChannel(IOAT_CHANERR_OFFSET, 4);
    if (error === 0) return 'ok';
    this.setChannel(IOAT_CHANERR_OFFSET, 4, error);
    this.reset();
    return ERRORS.get(error) ?? `CHANERR 0x${error.toString(16)}`;
  }

  close(): void {
    this.interrupt.close();
    this.ring.close();
  }

  /** Checks registers that only such an engine has, before anything is written. */
  private demandEngine(): void {
    const { sizeBytes, map } = this.client.regionInfo(IOAT_MMIO_BAR);
    map?.fd.close();
    if (sizeBytes >= 2 * IOAT_CHANNEL_MMIO_SIZE) {
      const version = this.get(IOAT_VER_OFFSET, 1) >> 4;
      const channels = this.get(IOAT_CHANCNT_OFFSET, 1);
      const order = this.get(IOAT_XFERCAP_OFFSET, 1);
      if (version >= 1 && version <= 3 && channels >= 1 && channels <= 32 && order >= 12 && order <= 32) return;
    }
    this.interrupt.close();
    throw new Errno('ENODEV', `${this.client.path} is not an I/OAT DMA engine (model: ioat of a machine file)`);
  }

  private reset(): void {
    this.setChannel(IOAT_CHANCMD_OFFSET, 1, IOAT_CHANCMD_RESET);
    for (let reads = 0; reads < MAX_RESET_READS; reads++) {
      if ((this.getChannel(IOAT_CHANCMD_OFFSET, 1) & IOAT_CHANCMD_RESET) === 0) return;
    }
    throw new Errno('ETIMEDOUT', `the DMA engine of ${this.client.path} does not come out of its reset`);
  }

  private getChannel(register: number, bytes: number): number {
    return this.get(IOAT_CHANNEL_MMIO_SIZE + register, bytes);
  }

  private setChannel(register: number, bytes: number, value: number): void {
    this.set(IOAT_CHANNEL_MMIO_SIZE + register, bytes, value);
  }

  /** Returns the register's value; for 64-bit registers, the low 32 bits. */
  private get(register: number, bytes: number): number {
    this.register.fill(0);
    this.client.readRegion(IOAT_MMIO_BAR, register, this.register.subarray(0, bytes));
    return this.register.readUInt32LE();
  }

  private set(register: number, bytes: number, value: number): void {
    this.register.writeBigUInt64LE(BigInt(value));
    this.client.writeRegion(IOAT_MMIO_BAR, register, this.register.subarray(0, bytes));
  }
}
