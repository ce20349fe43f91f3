/**
 * Copies by the I/OAT engine against memcpy of the same bytes in the same run: in process, where the bench rings the
 * doorbell and lets the tasks run, and over vfio-user, where a server has the engine and each copy is a chain of its
 * own with an interrupt at its end.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  IOAT_CHAINADDR_OFFSET,
  IOAT_CHAN_DMACOUNT_OFFSET,
  IOAT_CHANNEL_MMIO_SIZE,
  ioat_dma_descriptor,
} from '../src/abi/ioat.ts';
import { PCI_COMMAND } from '../src/abi/pci_regs.ts';
import { IoatDriver } from '../src/drivers/ioat.ts';
import { Pinned, sys } from '../src/linux/ffi.ts';
import { createMemfd } from '../src/linux/memfd.ts';
import { MappedMemory } from '../src/linux/placed-memory.ts';
import { buildMachine } from '../src/machine/build.ts';
import { parseMachine } from '../src/machine/load.ts';
import { serveMachine } from '../src/machine/served.ts';
import type { PciFunction } from '../src/pci/function.ts';
import { runner } from '../src/task/runner.ts';
import { VfioUserClient } from '../src/vfio-user/client/client.ts';
import type { BenchResult } from './result.ts';

/**
 * With the least ratios that are good. What a copy costs besides its bytes, a few microseconds in process and several
 * round trips when served, is many times what memcpy takes for 4 KiB in a cache.
 */
const SIZES: readonly [bytes: number, name: string, inProcessBar: number, servedBar: number][] = [
  [4 << 10, '4KiB', 0.015, 0.0007],
  [64 << 10, '64KiB', 0.15, 0.008],
  [1 << 20, '1MiB', 0.15, 0.05],
];
const MACHINE = parseMachine(
  '{ machine: bench, ports: [{ name: root, kind: root }], devices: [{ name: engine, model: ioat, port: root }] }',
  'bench.yaml',
);
const SOURCE = 0x1000_0000;
const DESTINATION = 0x2000_0000;
const RING = 0x3000_0000;
const MAX_BYTES = 1 << 20;
const BUS_MASTER_AND_MEMORY = 6;
const READ_WRITE = 3;
const RUNS = 40;
/** Of one run, about: so short that most runs are not interrupted by whatever else the machine does. */
const RUN_BYTES = 4 << 20;
const MIN_COPIES = 4;
const MAX_COPIES = 100;

export async function benchDma(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  const memcpy = new Memcpy();
  const inProcess = new InProcessEngine();
  for (const [bytes, name, bar] of SIZES) {
    results.push(compare(`dma-in-process-${name}`, bytes, bar, memcpy, (count) => inProcess.copy(bytes, count)));
  }
  inProcess.close();
  const served = await ServedEngine.start();
  for (const [bytes, name, , bar] of SIZES) {
    results.push(compare(`dma-vfio-user-${name}`, bytes, bar, memcpy, (count) => served.copy(bytes, count)));
  }
  await served.close();
  return results;
}

/** Alternating runs; the best of each counts, which nothing else interrupted. */
function compare(name: string, bytes: number, bar: number, memcpy: Memcpy, copy: (count: number) => void): BenchResult {
  const count = Math.min(MAX_COPIES, Math.max(MIN_COPIES, Math.floor(RUN_BYTES / bytes)));
  const seconds = (body: () => void): number => {
    const began = performance.now();
    body();
    return (performance.now() - began) / 1000 / count;
  };
  copy(count);
  const engine: number[] = [];
  const plain: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    engine.push(seconds(() => copy(count)));
    plain.push(seconds(() => memcpy.copy(bytes, count)));
  }
  const ours = Math.min(...engine);
  const ratio = Math.min(...plain) / ours;
  return { name, value: bytes / ours / 2 ** 20, unit: 'MiB/s', reference: 'memcpy', ratio, bar };
}

class Memcpy {
  private readonly from = new Pinned(MAX_BYTES);
  private readonly to = new Pinned(MAX_BYTES);

  copy(bytes: number, count: number): void {
    for (let i = 0; i < count; i++) sys.memcpy(this.to.address, this.from.address, bytes);
  }
}

/** Its memory is mapped as a client's is. */
class InProcessEngine {
  private readonly fn: PciFunction;
  private readonly memories: MappedMemory[] = [];
  private readonly ring: MappedMemory;
  private readonly register = Buffer.alloc(8);

  constructor() {
    this.fn = buildMachine(MACHINE).functions.get('engine')!;
    this.map(SOURCE, MAX_BYTES);
    this.map(DESTINATION, MAX_BYTES);
    this.ring = this.map(RING, MAX_COPIES * ioat_dma_descriptor.sizeof + 4096);
    runner.run(this.fn.configWrite(PCI_COMMAND, 2, BUS_MASTER_AND_MEMORY));
  }

  /** One chain, as drivers that queue have it. */
  copy(bytes: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const next = RING + (i + 1) * ioat_dma_descriptor.sizeof;
      const fields = { size: bytes, src_addr: SOURCE, dst_addr: DESTINATION, next };
      this.ring.write(i * ioat_dma_descriptor.sizeof, ioat_dma_descriptor.encode(fields));
    }
    this.set(IOAT_CHAINADDR_OFFSET, 8, RING);
    this.set(IOAT_CHAN_DMACOUNT_OFFSET, 2, count);
    runner.drain();
  }

  close(): void {
    for (const memory of this.memories) memory.close();
  }

  private map(iova: number, sizeBytes: number): MappedMemory {
    const rounded = Math.ceil(sizeBytes / 4096) * 4096;
    const memfd = createMemfd('bench', rounded);
    const memory = new MappedMemory({ fd: memfd.fd, offset: 0, sizeBytes: rounded, writable: true, what: 'bench' });
    memfd.close();
    this.memories.push(memory);
    this.fn.iommuDomain!.map(iova, rounded, { kind: 'memory', memory, offset: 0 }, READ_WRITE);
    return memory;
  }

  private set(register: number, bytes: number, value: number): void {
    this.register.writeBigUInt64LE(BigInt(value));
    this.fn.bars[0]!.target.write(IOAT_CHANNEL_MMIO_SIZE + register, this.register.subarray(0, bytes));
  }
}

class ServedEngine {
  private readonly folder: string;
  private readonly stop: () => Promise<void>;
  private readonly client: VfioUserClient;
  private readonly driver: IoatDriver;

  private constructor(folder: string, socket: string, stop: () => Promise<void>) {
    this.folder = folder;
    this.stop = stop;
    this.client = new VfioUserClient(socket);
    for (const iova of [SOURCE, DESTINATION]) {
      const memfd = createMemfd('bench', MAX_BYTES);
      this.client.dmaMap(iova, MAX_BYTES, READ_WRITE, memfd.fd);
      memfd.close();
    }
    this.driver = new IoatDriver(this.client);
  }

  static async start(): Promise<ServedEngine> {
    const folder = mkdtempSync(join(tmpdir(), 'barter-bench-'));
    const { devices, stop } = await serveMachine(MACHINE, { socketDir: folder });
    return new ServedEngine(folder, devices[0].socket, stop);
  }

  copy(bytes: number, count: number): void {
    for (let i = 0; i < count; i++) {
      const status = this.driver.copy(SOURCE, DESTINATION, bytes);
      if (status !== 'ok') throw new Error(`the engine stopped: ${status}`);
    }
  }

  async close(): Promise<void> {
    this.driver.close();
    this.client.close();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
