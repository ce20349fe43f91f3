/** An importer whose device is the I/OAT engine: its descriptors, completions and interrupts against revokes. */
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANCTRL_ERR_INT_EN,
  IOAT_CHANCTRL_INT_REARM,
  IOAT_CHANCTRL_OFFSET,
  IOAT_CHANERR_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  IOAT_CHANSTS_DONE,
  IOAT_CHANSTS_HALTED,
  IOAT_CHANSTS_OFFSET,
  IOAT_CHANSTS_STATUS,
  IOAT_DESC_CTL_INT_EN,
  IOAT_INTRCTRL_MSIX_VECTOR_CONTROL,
  IOAT_INTRCTRL_OFFSET,
  IOAT_MMIO_BAR,
  ioat_dma_descriptor,
} from '../../abi/ioat.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import { DMA_RESV_USAGE_BOOKKEEP } from '../../dma-buf/resv.ts';
import type { ProgramFamily } from '../../explore/world/program.ts';
import { IOMMU_READ } from '../../pci/dma.ts';
import type { PciFunction } from '../../pci/function.ts';
import { ArrayMemory } from '../../pci/memory.ts';
import { InvariantError } from '../../task/lifetime.ts';
import type { Task } from '../../task/op.ts';
import { spawnBeside } from '../../task/runner.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { ATTACH, EXPORT, MAP, OFF, OPEN, scenario } from './family.ts';
import type { ProductStage } from './stage.ts';
import { TRIGGERS } from './triggers.ts';

/** The importer's memory for the engine's descriptors and for the bytes to copy. */
const RING = 0x10000;
const SOURCE = RING + 0x800;
const BYTES = 4;
const COPIES = 2;

/**
 * The joint work of ioatdma and an importer: a chain of copies into the mapping. A fence covers the chain, and the
 * interrupt at its end signals the fence.
 */
class EngineDriver {
  private readonly set: ProductStage;
  private readonly fn: PciFunction;
  private readonly fence = new DmaFence('fence of the engine');
  private readonly memory = new ArrayMemory(0x1000);
  private interrupts = 0;

  constructor(set: ProductStage) {
    this.set = set;
    this.fn = set.world.pciFunction('borrower');
    const target = { kind: 'memory' as const, memory: this.memory, offset: 0 };
    this.fn.iommuDomain!.map(RING, this.memory.sizeBytes, target, IOMMU_READ);
    this.fn.interrupts = { msi: () => spawnBeside('interrupt', this.onInterrupt()), intx: () => {} };
    set.check(() => this.checkEnd());
  }

  *start(): Task {
    const { attachment, dmabuf, mappings } = this.set.world.importers.get('importer')!;
    yield* dmabuf.resv.lock.lock();
    const mapping = [...mappings][0];
    if (mapping !== undefined) yield* dmabuf.resv.addFence(this.fence, DMA_RESV_USAGE_BOOKKEEP);
    const address = mapping?.table.segments[0].address;
    yield* dmabuf.resv.lock.unlock();
    if (address === undefined || attachment.dev !== this.fn) return;
    this.writeChain(address);
    this.setChannel(IOAT_CHAINADDR_OFFSET, 8, RING);
    this.setChannel(IOAT_CHANCTRL_OFFSET, 2, IOAT_CHANCTRL_INT_REARM | IOAT_CHANCTRL_ERR_INT_EN);
    this.setRegister(IOAT_INTRCTRL_OFFSET, 1, IOAT_INTRCTRL_MSIX_VECTOR_CONTROL);
    this.setChannel(IOAT_CHAN_DMACOUNT_OFFSET, 2, COPIES);
  }

  private writeChain(address: number): void {
    for (let i = 0; i < COPIES; i++) {
      this.memory.write(SOURCE - RING + BYTES * i, this.bytesOf(i));
      const descriptor = ioat_dma_descriptor.encode({
        size: BYTES,
        ctl: i === COPIES - 1 ? IOAT_DESC_CTL_INT_EN : 0,
        src_addr: SOURCE + BYTES * i,
        dst_addr: address + BYTES * i,
        next: RING + ioat_dma_descriptor.sizeof * (i + 1),
      });
      this.memory.write(ioat_dma_descriptor.sizeof * i, descriptor);
    }
  }

  private *onInterrupt(): Task {
    this.interrupts += 1;
    const state = this.getChannel(IOAT_CHANSTS_OFFSET) & IOAT_CHANSTS_STATUS;
    if (state === IOAT_CHANSTS_HALTED) {
      throw new InvariantError('I9', `a copy under a fence failed: CHANERR ${this.getChannel(IOAT_CHANERR_OFFSET)}`);
    }
    const { dmabuf } = this.set.world.importers.get('importer')!;
    const lender = this.set.world.device('lender');
    for (let i = 0; i < COPIES; i++) {
      this.set.checker.wrote('the engine', lender, dmabuf.priv as VfioPciDmaBuf, BYTES * i, this.bytesOf(i));
    }
    yield* this.fence.signal();
  }

  /** The engine is at rest, and its driver was notified. */
  private checkEnd(): void {
    const state = this.getChannel(IOAT_CHANSTS_OFFSET) & IOAT_CHANSTS_STATUS;
    const isStarted = this.getChannel(IOAT_CHAN_DMACOUNT_OFFSET, 2) !== 0;
    if (state !== IOAT_CHANSTS_DONE && state !== IOAT_CHANSTS_HALTED) {
      throw new InvariantError('I4', `the engine ends in state ${state}`);
    }
    if (isStarted && this.interrupts !== 1) {
      throw new InvariantError('I6', `a chain ended with ${this.interrupts} interrupts`);
    }
  }

  private bytesOf(copy: number): Uint8Array {
    return Uint8Array.from({ length: BYTES }, (_, i) => 16 * (copy + 1) + i);
  }

  private getChannel(register: number, bytes = 4): number {
    const value = Buffer.alloc(4);
    this.fn.bars[IOAT_MMIO_BAR]!.target.read(IOAT_CHANNEL_MMIO_SIZE + register, value.subarray(0, bytes));
    return value.readUInt32LE();
  }

  private setChannel(register: number, bytes: number, value: number): void {
    this.setRegister(IOAT_CHANNEL_MMIO_SIZE + register, bytes, value);
  }

  private setRegister(register: number, bytes: number, value: number): void {
    const buffer = Buffer.alloc(8);
    buffer.writeBigUInt64LE(BigInt(value));
    this.fn.bars[IOAT_MMIO_BAR]!.target.write(register, buffer.subarray(0, bytes));
  }
}

function versus(name: string, summary: string, trigger: Parameters<ProductStage['task']>[1]): ProgramFamily {
  return scenario(name, summary, (set) => {
    set.prepare([...OPEN, EXPORT, ATTACH, MAP]);
    const driver = new EngineDriver(set);
    set.task('revoker', trigger);
    set.rawTask('driver', driver.start());
  });
}

export const ENGINES: readonly ProgramFamily[] = [
  versus('revoke-vs-engine', 'memory goes off while the I/OAT engine takes descriptors under a fence', [OFF]),
  versus('reset-vs-engine', 'the device is reset while the I/OAT engine takes descriptors', TRIGGERS.reset),
];
