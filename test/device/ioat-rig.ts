/** An I/OAT engine with memory that it reaches, and its channels' registers as software sees them. */
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCMD_OFFSET,
  IOAT_CHANCMP_OFFSET,
  IOAT_CHANCTRL_ERR_COMPLETION_EN,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_STATUS,
  IOAT_INTRCTRL_MSIX_VECTOR_CONTROL,
  IOAT_INTRCTRL_OFFSET,
  ioat_dma_descriptor,
} from '../../src/abi/ioat.ts';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { IOMMU_READ, IOMMU_WRITE, type RemoteMemory } from '../../src/pci/dma.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { Cell } from '../../src/task/cell.ts';
import type { Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

export const MEMORY = 0x10_0000;
export const MEMORY_BYTES = 0x40_0000;
/** The address of the descriptors, one after the other. The completion precedes them. */
export const RING = MEMORY + 0x1000;
export const COMPLETION = MEMORY + 0x40;
export const READ_ONLY = 0x100_0000;
/** Memory whose owner answers only when a test tells it to. */
export const SLOW = 0x200_0000;
const PAGE = 4096;

export interface TestDescriptor {
  source?: number | bigint;
  destination?: number | bigint;
  size?: number;
  ctl?: number;
  next?: number;
}

/** Answers only while the test allows it. */
class SlowMemory implements RemoteMemory {
  readonly chunkBytes = 2 ** 20;
  readonly permits = new Cell('permits', 0);
  writes = 0;

  *read(_address: number, into: Uint8Array): Task<boolean> {
    yield* this.pass();
    into.fill(7);
    return true;
  }

  *write(): Task<boolean> {
    yield* this.pass();
    this.writes += 1;
    return true;
  }

  abort(): void {}

  let(count: number): void {
    runner.run(this.permits.store(this.permits.value + count));
    runner.drain();
  }

  private *pass(): Task {
    yield* this.permits.waitUntil((count) => count > 0);
    yield* this.permits.store(this.permits.value - 1);
  }
}

export class IoatRig {
  readonly fn;
  readonly domain = new IommuDomain('test');
  readonly memory = new ArrayMemory(MEMORY_BYTES);
  readonly slow = new SlowMemory();
  readonly vectors: number[] = [];

  constructor(channels = 1) {
    const machine = `{ machine: m, ports: [{ name: root, kind: root }],
      devices: [{ name: engine, model: ioat, port: root, channels: ${channels} }] }`;
    this.fn = buildMachine(parseMachine(machine, 'm.yaml')).functions.get('engine')!;
    this.fn.iommuDomain = this.domain;
    this.domain.map(MEMORY, MEMORY_BYTES, { kind: 'memory', memory: this.memory, offset: 0 }, IOMMU_READ | IOMMU_WRITE);
    this.domain.map(READ_ONLY, PAGE, { kind: 'memory', memory: new ArrayMemory(PAGE), offset: 0 }, IOMMU_READ);
    this.domain.map(SLOW, 0x10000, { kind: 'remote', access: this.slow, address: SLOW }, IOMMU_READ | IOMMU_WRITE);
    this.fn.interrupts = { msi: (vector) => this.vectors.push(vector), intx: () => {} };
    this.busMaster(true);
  }

  busMaster(on: boolean): void {
    runner.run(this.fn.configWrite(PCI_COMMAND, 2, on ? 6 : 2));
  }

  get(register: number, bytes: number): bigint {
    const value = Buffer.alloc(8);
    this.fn.bars[0]!.target.read(register, value.subarray(0, bytes));
    return value.readBigUInt64LE();
  }

  set(register: number, bytes: number, value: number | bigint): void {
    const buffer = Buffer.alloc(8);
    buffer.writeBigUInt64LE(BigInt(value));
    this.fn.bars[0]!.target.write(register, buffer.subarray(0, bytes));
  }

  channel(index = 0): RigChannel {
    return new RigChannel(this, (index + 1) * IOAT_CHANNEL_MMIO_SIZE);
  }

  /** Returns bytes at the device's addresses. */
  read(address: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.memory.read(address - MEMORY, bytes);
    return bytes;
  }

  write(address: number, bytes: Uint8Array): void {
    this.memory.write(address - MEMORY, bytes);
  }

  /** Writes a chain at `RING`. Each descriptor links to the next unless it says otherwise. */
  chain(descriptors: readonly TestDescriptor[]): void {
    for (const [i, { source = 0, destination = 0, size = 8, ctl = 0, next }] of descriptors.entries()) {
      const at = RING + i * ioat_dma_descriptor.sizeof;
      const fields = { size, ctl, src_addr: source, dst_addr: destination, next: next ?? at + 64 };
      this.write(at, ioat_dma_descriptor.encode(fields));
    }
  }
}

export class RigChannel {
  private readonly rig: IoatRig;
  private readonly base: number;

  constructor(rig: IoatRig, base: number) {
    this.rig = rig;
    this.base = base;
  }

  get(register: number, bytes: number): bigint {
    return this.rig.get(this.base + register, bytes);
  }

  set(register: number, bytes: number, value: number | bigint): void {
    this.rig.set(this.base + register, bytes, value);
  }

  get state(): number {
    return Number(this.get(IOAT_CHANSTS_OFFSET, 8)) & IOAT_CHANSTS_STATUS;
  }

  get error(): number {
    return Number(this.get(IOAT_CHANERR_OFFSET, 4));
  }

  command(bits: number): void {
    this.set(IOAT_CHANCMD_OFFSET, 1, bits);
  }

  /** Starts the engine as drivers do: interrupts and completions on, the chain's address, and the doorbell. */
  start(count: number, { chain = RING as number | bigint, completion = COMPLETION } = {}): void {
    this.rig.set(IOAT_INTRCTRL_OFFSET, 1, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
    const control = IOAT_CHANCTRL_INT_REARM | IOAT_CHANCTRL_ERR_COMPLETION_EN | IOAT_CHANCTRL_ERR_INT_EN;
    this.set(IOAT_CHANCTRL_OFFSET, 2, control);
    this.set(IOAT_CHANCMP_OFFSET, 4, completion);
    this.set(IOAT_CHANCMP_OFFSET + 4, 4, 0);
    this.set(IOAT_CHAINADDR_OFFSET, 8, chain);
    this.set(IOAT_CHAN_DMACOUNT_OFFSET, 2, count);
  }

  run(count: number, options: { chain?: number | bigint; completion?: number } = {}): void {
    this.start(count, options);
    runner.drain();
  }
}
