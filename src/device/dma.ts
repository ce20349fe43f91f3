/**
 * A small DMA engine: a ring of descriptors in its BAR, copied one after the other between bus addresses. The
 * borrower of the examples. All registers are little-endian.
 *
 * | offset | size | register |
 * |---|---|---|
 * | 0x00 | 4 | CONTROL: bit 0 run, bit 1 interrupt when the ring is empty |
 * | 0x04 | 4 | STATUS: bit 0 busy, bit 1 error; a write of 1 clears the error |
 * | 0x08 | 4 | HEAD: next descriptor the engine takes, read-only |
 * | 0x0c | 4 | TAIL: doorbell; the engine works while HEAD differs |
 * | 0x10 | 4 | COMPLETED: descriptors done since reset |
 * | 0x14 | 4 | ERROR: 0 none, 1 unsupported request, 2 IOMMU fault, 3 bus master off |
 * | 0x1000 | 32 each | ring: u64 source, u64 destination, u32 length, u32 flags, u64 reserved; 64 descriptors |
 */
import { Bar, type BarTarget } from '../pci/bar.ts';
import type { CapabilitySpec } from '../pci/capabilities.ts';
import type { DmaStatus } from '../pci/dma.ts';
import type { PciFunction } from '../pci/function.ts';
import { ArrayMemory } from '../pci/memory.ts';
import type { Task } from '../task/op.ts';
import { condResched, runner } from '../task/runner.ts';
import type { DeviceIdentity, DeviceModel } from './model.ts';
import { msixMemory } from './msix.ts';

export const DMA_CONTROL = 0x00;
export const DMA_CONTROL_RUN = 1 << 0;
export const DMA_CONTROL_INTERRUPT = 1 << 1;
export const DMA_STATUS = 0x04;
export const DMA_STATUS_BUSY = 1 << 0;
export const DMA_STATUS_ERROR = 1 << 1;
export const DMA_HEAD = 0x08;
export const DMA_TAIL = 0x0c;
export const DMA_COMPLETED = 0x10;
export const DMA_ERROR = 0x14;
export const DMA_RING = 0x1000;
export const DMA_RING_ENTRIES = 64;
export const DMA_DESCRIPTOR_BYTES = 32;
export const DMA_BAR_BYTES = 0x2000;

const ERRORS: Record<DmaStatus, number> = {
  ok: 0,
  'unsupported-request': 1,
  'iommu-fault': 2,
  'bus-master-off': 3,
};
/** Bytes per request of the engine; a revoke waits for at most one. */
const CHUNK_BYTES = 64 * 1024;

export class DmaDevice implements DeviceModel {
  readonly identity: DeviceIdentity;
  readonly capabilities: CapabilitySpec;
  private readonly registers = new ArrayMemory(DMA_BAR_BYTES);
  private readonly view = new DataView(new ArrayBuffer(4));
  private readonly chunk = new Uint8Array(CHUNK_BYTES);
  private fn!: PciFunction;
  private busy = false;
  /** Resets make work that is under way end without a trace. */
  private generation = 0;

  constructor(identity: DeviceIdentity, capabilities: CapabilitySpec) {
    this.identity = identity;
    this.capabilities = { ...capabilities, msix: { vectors: 1, bar: 1, tableOffset: 0, pbaOffset: 0x800 } };
  }

  bars(): (Bar | null)[] {
    const target: BarTarget = {
      memory: null,
      read: (offset, into) => this.registers.read(offset, into),
      write: (offset, from) => this.write(offset, from),
    };
    const table = msixMemory(0x1000, 1, 0);
    const tableTarget: BarTarget = {
      memory: null,
      read: (offset, into) => table.read(offset, into),
      write: (offset, from) => table.write(offset, from),
    };
    return [
      new Bar(0, 'mem32', false, DMA_BAR_BYTES, target),
      new Bar(1, 'mem32', false, 0x1000, tableTarget),
      null,
      null,
      null,
      null,
    ];
  }

  bind(fn: PciFunction): void {
    this.fn = fn;
    fn.hooks.push({ onReset: () => this.reset() });
  }

  private reset(): void {
    this.generation += 1;
    this.busy = false;
    this.registers.write(0, new Uint8Array(DMA_BAR_BYTES));
  }

  private get(register: number): number {
    const bytes = new Uint8Array(this.view.buffer);
    this.registers.read(register, bytes);
    return this.view.getUint32(0, true);
  }

  private set(register: number, value: number): void {
    this.view.setUint32(0, value >>> 0, true);
    this.registers.write(register, new Uint8Array(this.view.buffer));
  }

  private write(offset: number, from: Uint8Array): void {
    if (offset >= DMA_RING) {
      this.registers.write(offset, from);
      return;
    }
    if (from.length !== 4 || offset % 4 !== 0) return;
    const value = new DataView(from.buffer, from.byteOffset, 4).getUint32(0, true);
    if (offset === DMA_STATUS) this.set(DMA_STATUS, this.get(DMA_STATUS) & ~(value & DMA_STATUS_ERROR));
    if (offset === DMA_CONTROL) this.set(DMA_CONTROL, value & 3);
    if (offset === DMA_TAIL) this.set(DMA_TAIL, value % DMA_RING_ENTRIES);
    if (offset === DMA_CONTROL || offset === DMA_TAIL) this.kick();
  }

  /** A doorbell: the engine's work is a task of its own, which the serving loop runs when the write is answered. */
  private kick(): void {
    if (this.busy || (this.get(DMA_CONTROL) & DMA_CONTROL_RUN) === 0) return;
    if (this.get(DMA_HEAD) === this.get(DMA_TAIL)) return;
    this.busy = true;
    this.set(DMA_STATUS, this.get(DMA_STATUS) | DMA_STATUS_BUSY);
    runner.spawn(`${this.fn.name} engine`, this.work());
  }

  /** Takes descriptors until the ring is empty or one fails; ends by itself. */
  *work(): Task {
    const generation = this.generation;
    while (this.get(DMA_HEAD) !== this.get(DMA_TAIL) && (this.get(DMA_CONTROL) & DMA_CONTROL_RUN) !== 0) {
      const status = yield* this.copy(this.get(DMA_HEAD), generation);
      if (generation !== this.generation) return;
      if (status !== 'ok') {
        this.set(DMA_ERROR, ERRORS[status]);
        this.set(DMA_STATUS, this.get(DMA_STATUS) | DMA_STATUS_ERROR);
        this.set(DMA_CONTROL, this.get(DMA_CONTROL) & ~DMA_CONTROL_RUN);
        break;
      }
      this.set(DMA_HEAD, (this.get(DMA_HEAD) + 1) % DMA_RING_ENTRIES);
      this.set(DMA_COMPLETED, this.get(DMA_COMPLETED) + 1);
    }
    this.busy = false;
    this.set(DMA_STATUS, this.get(DMA_STATUS) & ~DMA_STATUS_BUSY);
    if ((this.get(DMA_CONTROL) & DMA_CONTROL_INTERRUPT) !== 0) this.fn.interrupts?.msi(0);
  }

  private *copy(index: number, generation: number): Task<DmaStatus> {
    const bytes = new Uint8Array(DMA_DESCRIPTOR_BYTES);
    this.registers.read(DMA_RING + index * DMA_DESCRIPTOR_BYTES, bytes);
    const descriptor = new DataView(bytes.buffer);
    const source = Number(descriptor.getBigUint64(0, true));
    const destination = Number(descriptor.getBigUint64(8, true));
    const length = descriptor.getUint32(16, true);
    for (let at = 0; at < length; at += CHUNK_BYTES) {
      const part = this.chunk.subarray(0, Math.min(CHUNK_BYTES, length - at));
      const read = yield* this.fn.dmaRead(source + at, part);
      if (read !== 'ok') return read;
      if (generation !== this.generation) return 'ok';
      const written = yield* this.fn.dmaWrite(destination + at, part);
      if (written !== 'ok') return written;
      yield* condResched();
      if (generation !== this.generation) return 'ok';
    }
    return 'ok';
  }
}
