/**
 * Copies by the I/OAT engine against memcpy of the same bytes in the same run. In process, the bench rings the doorbell
 * and runs the tasks. Over vfio-user, a server has the engine, and an interrupt ends a chain.
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
 * The copies in a chain, as drivers queue them, with the least good ratios. Besides its bytes, a descriptor costs half
 * a microsecond and a served chain several round trips. That is many times a memcpy of 4 KiB in a cache.
 */
const SIZES: readonly [bytes: number, name: string, chain: number, inProcessBar: number, servedBar: number][] = [
  [4 << 10, '4KiB', 64, 0.1, 0.01],
  [64 << 10, '64KiB', 64, 0.5, 0.15],
  [1 << 20, '1MiB', 16, 0.8, 0.5],
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
const MAX_CHAIN = 64;
/** Chains of small copies come first: until V8 has compiled their path, its start-up cost hides the copy's. */
const WARM_UPS = 300;
const WARM_UP_BYTES = 4096;

export async function benchDma(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  const memcpy = new Memcpy();
  const inProcess = new InProcessEngine();
  for (let i = 0; i < WARM_UPS; i++) inProcess.copy(WARM_UP_BYTES, MAX_CHAIN);
  for (const [bytes, name, chain, bar] of SIZES) {
    results.push(compare(`dma-in-process-${name}`, bytes, chain, bar, memcpy, () => inProcess.copy(bytes, chain)));
  }
  inProcess.close();
  const served = await ServedEngine.start();
  for (let i = 0; i < WARM_UPS; i++) served.copy(WARM_UP_BYTES, MAX_CHAIN);
  for (const [bytes, name, chain, , bar] of SIZES) {
    results.push(compare(`dma-vfio-user-${name}`, bytes, chain, bar, memcpy, () => served.copy(bytes, chain)));
  }
  await served.close();
  return results;
}

/** Both sides run alternately. The best run of each counts, since other load only slows a run down. */
function compare(
  name: string,
  bytes: number,
  count: number,
  bar: number,
  memcpy: Memcpy,
  copy: () => void,
): BenchResult {
  const seconds = (body: () => void): number => {
    const began = performance.now();
    body();
    return (performance.now() - began) / 1000 / count;
  };
  copy();
  const engine: number[] = [];
  const plain: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    engine.push(seconds(copy));
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

/** The engine in this process. Its memory is mapped like a client's. */
class InProcessEngine {
  private readonly fn: PciFunction;
  private readonly memories: MappedMemory[] = [];
  private readonly ring: MappedMemory;
  private readonly register = Buffer.alloc(8);
  /** The size of each descriptor in the ring. */
  private ringBytes = 0;

  constructor() {
    this.fn = buildMachine(MACHINE).functions.get('engine')!;
    this.map(SOURCE, MAX_BYTES);
    this.map(DESTINATION, MAX_BYTES);
    this.ring = this.map(RING, MAX_CHAIN * ioat_dma_descriptor.sizeof + 4096);
    runner.run(this.fn.configWrite(PCI_COMMAND, 2, BUS_MASTER_AND_MEMORY));
  }

  /** Runs one chain, as queueing drivers do. */
  copy(bytes: number, count: number): void {
    if (bytes !== this.ringBytes) this.writeRing(bytes);
    this.set(IOAT_CHAINADDR_OFFSET, 8, RING);
    this.set(IOAT_CHAN_DMACOUNT_OFFSET, 2, count);
    runner.drain();
  }

  /** Writes the ring of the longest chain. A shorter chain is the start of it. */
  private writeRing(bytes: number): void {
    this.ringBytes = bytes;
    for (let i = 0; i < MAX_CHAIN; i++) {
      const next = RING + (i + 1) * ioat_dma_descriptor.sizeof;
      const fields = { size: bytes, src_addr: SOURCE, dst_addr: DESTINATION, next };
      this.ring.write(i * ioat_dma_descriptor.sizeof, ioat_dma_descriptor.encode(fields));
    }
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
    this.driver.submitChain(new Array(count).fill({ source: SOURCE, destination: DESTINATION, length: bytes }));
    const status = this.driver.wait();
    if (status !== 'ok') throw new Error(`the engine stopped: ${status}`);
  }

  async close(): Promise<void> {
    this.driver.close();
    this.client.close();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
