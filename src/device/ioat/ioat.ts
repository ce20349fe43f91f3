/**
 * Intel's I/OAT DMA engine, as in Skylake servers (8086:2021): channels that copy between bus addresses. Linux's
 * ioatdma or a user-space driver drives it. It only copies: no XOR, no fill, no cache hints. The borrower of the
 * examples.
 */

import { Errno } from '../../abi/errno.ts';
import {
  IOAT_ATTNSTATUS_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMD_RESUME,
  IOAT_CHANCNT_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_INTRCTRL_INT,
  IOAT_INTRCTRL_INT_STATUS,
  IOAT_INTRCTRL_MASTER_INT_EN,
  IOAT_INTRCTRL_MSIX_VECTOR_CONTROL,
  IOAT_INTRCTRL_OFFSET,
  IOAT_MMIO_BAR,
  IOAT_PCI_CHANERR_INT_OFFSET,
  IOAT_PCI_CHANERRMASK_INT_OFFSET,
  IOAT_VER_3_3,
  IOAT_VER_OFFSET,
  IOAT_XFERCAP_OFFSET,
} from '../../abi/ioat.ts';
import { Bar, type BarTarget } from '../../pci/bar.ts';
import type { CapabilitySpec } from '../../pci/capabilities.ts';
import type { PciFunction } from '../../pci/function.ts';
import { ArrayMemory } from '../../pci/memory.ts';
import { msixEnabled } from '../../pci/msi.ts';
import type { Task } from '../../task/op.ts';
import type { DeviceIdentity, DeviceModel } from '../model.ts';
import { msixMemory } from '../msix.ts';
import { IoatChannel } from './channel.ts';
import { SAVED_CHANNEL_BYTES } from './channel-registers.ts';
import type { ChannelHost } from './channel-state.ts';
import { XFERCAP } from './descriptor.ts';

export const IOAT_BAR_BYTES = 0x4000;
/** The offset of the MSI-X table and its pending bits, with a vector for each channel. */
const MSIX_OFFSET = 0x2000;
const PBA_OFFSET = 0x3000;
/** The limit of the register space and of Linux's driver. */
export const MAX_CHANNELS = 4;

export class IoatDevice implements DeviceModel, ChannelHost {
  readonly identity: DeviceIdentity;
  readonly capabilities: CapabilitySpec;
  readonly channels: readonly IoatChannel[];
  fn!: PciFunction;
  private readonly msix;
  private readonly bytes = new Uint8Array(IOAT_CHANNEL_MMIO_SIZE);
  /** The writable bits of INTRCTRL. The others follow from other state. */
  private interruptControl = 0;
  /** ATTNSTATUS. */
  private attention = 0;

  constructor(identity: DeviceIdentity, capabilities: CapabilitySpec, channels: number) {
    this.identity = identity;
    const msix = { vectors: channels, bar: IOAT_MMIO_BAR, tableOffset: MSIX_OFFSET, pbaOffset: PBA_OFFSET };
    this.capabilities = { ...capabilities, msix };
    this.msix = msixMemory(new ArrayMemory(IOAT_BAR_BYTES - MSIX_OFFSET), channels, 0);
    this.channels = Array.from({ length: channels }, (_, index) => new IoatChannel(index, this));
    this.bytes[IOAT_CHANCNT_OFFSET] = channels;
    this.bytes[IOAT_XFERCAP_OFFSET] = XFERCAP;
    this.bytes[IOAT_VER_OFFSET] = IOAT_VER_3_3;
  }

  bars(): (Bar | null)[] {
    const target: BarTarget = {
      memory: null,
      doorbells: this.channels.map((channel, i) => ({
        offset: (i + 1) * IOAT_CHANNEL_MMIO_SIZE + IOAT_CHANCMD_OFFSET,
        sizeBytes: 1,
        datamatch: IOAT_CHANCMD_RESUME,
        ring: () => channel.resumeChain(),
      })),
      read: (offset, into) => this.each(offset, into, (block, at, part) => this.read(block, at, part)),
      write: (offset, from) => this.each(offset, from, (block, at, part) => this.write(block, at, part)),
    };
    return [new Bar(IOAT_MMIO_BAR, 'mem64', false, IOAT_BAR_BYTES, target), null, null, null, null, null];
  }

  bind(fn: PciFunction): void {
    this.fn = fn;
    fn.config.allow(IOAT_PCI_CHANERR_INT_OFFSET, 4, 0, 0xffffffff);
    fn.config.allow(IOAT_PCI_CHANERRMASK_INT_OFFSET, 4, 0xffffffff);
    fn.lifecycle.add({
      onReset: () => this.reset(),
      quiesce: () => this.quiesce(),
      resume: () => this.resume(),
      saveState: () => this.saveState(),
      loadState: (bytes) => this.loadState(bytes),
    });
  }

  private *quiesce(): Task {
    for (const channel of this.channels) yield* channel.quiesce();
  }

  private *resume(): Task {
    for (const channel of this.channels) yield* channel.resume();
  }

  /** Returns INTRCTRL, ATTNSTATUS and the channels, for a migration. */
  private saveState(): Uint8Array {
    const own = Uint8Array.of(this.interruptControl, this.attention);
    return Buffer.concat([own, ...this.channels.map((channel) => channel.state.save())]);
  }

  private loadState(bytes: Uint8Array): void {
    const wanted = 2 + this.channels.length * SAVED_CHANNEL_BYTES;
    if (bytes.length !== wanted) {
      throw new Errno('EINVAL', `an I/OAT engine of ${wanted} bytes of state, and ${bytes.length} came`);
    }
    this.interruptControl = bytes[0] & (IOAT_INTRCTRL_MASTER_INT_EN | IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
    this.attention = bytes[1] & ((1 << this.channels.length) - 1);
    for (const [i, channel] of this.channels.entries()) {
      channel.state.load(bytes.subarray(2 + i * SAVED_CHANNEL_BYTES, 2 + (i + 1) * SAVED_CHANNEL_BYTES));
    }
    this.driveLine();
  }

  interrupt(channel: number): void {
    this.attention |= 1 << channel;
    if (this.hasLine) this.driveLine();
    else if ((this.interruptControl & IOAT_INTRCTRL_MSIX_VECTOR_CONTROL) !== 0) this.fn.interrupts?.msi(channel);
    else if ((this.interruptControl & IOAT_INTRCTRL_MASTER_INT_EN) !== 0) this.fn.interrupts?.msi(0);
  }

  error(bits: number): void {
    const errors = this.fn.config.read(IOAT_PCI_CHANERR_INT_OFFSET, 4) | bits;
    this.fn.config.set(IOAT_PCI_CHANERR_INT_OFFSET, 4, errors >>> 0);
  }

  /** Whether interrupts use INTA#, because MSI-X is off. */
  private get hasLine(): boolean {
    return this.capabilities.intx === true && !msixEnabled(this.fn);
  }

  /** Asserts INTA# while INTRCTRL has an interrupt pending and enabled. */
  private driveLine(): void {
    if (!this.hasLine) return;
    const isEnabled = (this.interruptControl & IOAT_INTRCTRL_MASTER_INT_EN) !== 0;
    this.fn.interrupts?.intx(isEnabled && this.attention !== 0);
  }

  private reset(): void {
    this.interruptControl = 0;
    this.attention = 0;
    this.driveLine();
    for (const channel of this.channels) channel.powerOn();
  }

  /** Cuts an access at the blocks of registers: first the device's own, then one for each channel. */
  private each(offset: number, bytes: Uint8Array, access: (block: number, at: number, part: Uint8Array) => void): void {
    for (let done = 0; done < bytes.length; ) {
      const block = Math.floor((offset + done) / IOAT_CHANNEL_MMIO_SIZE);
      const at = (offset + done) % IOAT_CHANNEL_MMIO_SIZE;
      const part = bytes.subarray(done, done + IOAT_CHANNEL_MMIO_SIZE - at);
      access(block, at, part);
      done += part.length;
    }
  }

  private read(block: number, at: number, part: Uint8Array): void {
    const offset = block * IOAT_CHANNEL_MMIO_SIZE + at;
    if (offset >= MSIX_OFFSET) this.msix.read(offset - MSIX_OFFSET, part);
    else if (block === 0) this.readGeneral(at, part);
    else if (block <= this.channels.length) this.channels[block - 1].state.read(at, part);
    else part.fill(0);
  }

  private write(block: number, at: number, part: Uint8Array): void {
    const offset = block * IOAT_CHANNEL_MMIO_SIZE + at;
    const intrctrl = IOAT_INTRCTRL_OFFSET - at;
    if (offset >= MSIX_OFFSET) this.msix.write(offset - MSIX_OFFSET, part);
    else if (block > 0) this.channels[block - 1]?.write(at, part);
    else if (intrctrl >= 0 && intrctrl < part.length) {
      this.interruptControl = part[intrctrl] & (IOAT_INTRCTRL_MASTER_INT_EN | IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
      this.driveLine();
    }
  }

  private readGeneral(at: number, part: Uint8Array): void {
    const pending = this.attention === 0 ? 0 : IOAT_INTRCTRL_INT_STATUS;
    const isOn = pending !== 0 && (this.interruptControl & IOAT_INTRCTRL_MASTER_INT_EN) !== 0;
    this.bytes[IOAT_INTRCTRL_OFFSET] = this.interruptControl | pending | (isOn ? IOAT_INTRCTRL_INT : 0);
    this.bytes[IOAT_ATTNSTATUS_OFFSET] = this.attention;
    part.set(this.bytes.subarray(at, at + part.length));
    const covers = (register: number): boolean => at <= register && register < at + part.length;
    if (covers(IOAT_INTRCTRL_OFFSET)) this.interruptControl &= ~IOAT_INTRCTRL_MASTER_INT_EN;
    if (covers(IOAT_ATTNSTATUS_OFFSET)) this.attention = 0;
    this.driveLine();
  }
}
