/** DMA through mapped guest memory against memcpy, and an address space of ten thousand regions. */

import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../src/abi/pci_regs.ts';
import { median } from '../src/demo/median.ts';
import { Random } from '../src/explore/search/random.ts';
import { Pinned, sys } from '../src/linux/ffi.ts';
import { createMemfd } from '../src/linux/memfd.ts';
import { packageFile } from '../src/linux/package-file.ts';
import { MappedMemory } from '../src/linux/placed-memory.ts';
import { buildMachine } from '../src/machine/build.ts';
import { loadMachine } from '../src/machine/load.ts';
import type { DmaStatus, RemoteMemory } from '../src/pci/dma.ts';
import type { Task } from '../src/task/op.ts';
import { runner } from '../src/task/runner.ts';
import { DmaRegions, type LentBuffers } from '../src/vfio-user/server/dma-regions.ts';
import type { BenchResult } from './result.ts';

const MACHINE = packageFile('examples/two-peers.yaml');
const COPY_BYTES = 1 << 20;
const RUNS = 600;
const COPIES = 10;
/**
 * The number of small DMAs that run first: until V8 has compiled their path, it takes up to a third of a large DMA's
 * time.
 */
const WARM_UPS = 10_000;
const MEMCPY_BAR = 0.9;
const REGIONS = 10_000;
/**
 * How many times slower a lookup among 10,000 regions may be than among 100. A binary search with its cache misses
 * takes about twice as long, a linear walk a hundred times.
 */
const MAX_TIMES_SLOWER = 8;

export function benchMemory(): BenchResult[] {
  return [...benchCopy(), ...benchMaps()];
}

interface SideBySide {
  /** The median seconds of one call. */
  seconds: number;
  referenceSeconds: number;
  ratio: number;
}

/**
 * Times `body` and `reference` in turns so short that a slow phase of the machine hits both of a pair. The median pair
 * counts. The order within a pair alternates.
 */
function sideBySide(calls: number, body: () => void, reference: () => void): SideBySide {
  const times: number[] = [];
  const references: number[] = [];
  const turns: [() => void, number[]][] = [
    [body, times],
    [reference, references],
  ];
  for (let run = 0; run < RUNS; run++) {
    for (const [call, into] of turns) {
      const began = performance.now();
      for (let i = 0; i < calls; i++) call();
      into.push((performance.now() - began) / 1000 / calls);
    }
    turns.reverse();
  }
  const ratio = median(times.map((seconds, run) => references[run] / seconds));
  return { seconds: median(times), referenceSeconds: median(references), ratio };
}

/**
 * A device's DMA of a megabyte of its client's memory, from the request on the bus to the bytes. The reference is
 * memcpy at the same addresses: another mapping of the same file has another alignment and differs by several percent.
 */
function benchCopy(): BenchResult[] {
  const memfd = createMemfd('bench', COPY_BYTES);
  const { functions } = buildMachine(loadMachine(MACHINE));
  const device = functions.get('borrower')!;
  const regions = newRegions();
  runner.run(regions.start());
  runner.run(device.configWrite(PCI_COMMAND, 2, PCI_COMMAND_MASTER));
  device.iommuDomain = regions.domain;
  runner.run(regions.map({ flags: 3, offset: 0, iova: 0, sizeBytes: COPY_BYTES }, memfd.duplicate()));
  const address = addressAt(regions, 0, COPY_BYTES);
  const buffer = new Pinned(COPY_BYTES);
  function* copies(dma: () => Task<DmaStatus>): Task {
    for (let i = 0; i < COPIES; i++) {
      const status = yield* dma();
      if (status !== 'ok') throw new Error(`DMA: ${status}`);
    }
  }
  const memcpies = (to: number, from: number) => {
    for (let i = 0; i < COPIES; i++) sys.memcpy(to, from, COPY_BYTES);
  };
  buffer.bytes.fill(1);
  sys.memcpy(address, buffer.address, COPY_BYTES);
  const small = buffer.bytes.subarray(0, 64);
  for (let i = 0; i < WARM_UPS; i++) {
    runner.run(copies(() => device.dmaRead(0, small)));
    runner.run(copies(() => device.dmaWrite(0, small)));
  }
  const read = sideBySide(
    1,
    () => runner.run(copies(() => device.dmaRead(0, buffer.bytes))),
    () => memcpies(buffer.address, address),
  );
  const write = sideBySide(
    1,
    () => runner.run(copies(() => device.dmaWrite(0, buffer.bytes))),
    () => memcpies(address, buffer.address),
  );
  runner.run(regions.destroy());
  memfd.close();
  const result = (name: string, { seconds, referenceSeconds, ratio }: SideBySide): BenchResult => ({
    name,
    value: (COPIES * COPY_BYTES) / seconds / 2 ** 30,
    unit: 'GiB/s',
    reference: 'memcpy',
    ratio,
    bar: MEMCPY_BAR,
    referenceValue: (COPIES * COPY_BYTES) / referenceSeconds / 2 ** 30,
  });
  return [result('dma-read-1MiB', read), result('dma-write-1MiB', write)];
}

/** The address at which the server itself has mapped the client's memory at `iova`. */
function addressAt(regions: DmaRegions, iova: number, length: number): number {
  const target = regions.domain.find(iova)?.target;
  if (target?.kind !== 'memory' || !(target.memory instanceof MappedMemory))
    throw new Error('the region is not mapped');
  return target.memory.place(target.offset, length, true);
}

function benchMaps(): BenchResult[] {
  const few = new Space(100);
  const many = new Space(REGIONS);
  const { seconds, ratio } = sideBySide(
    2000,
    () => many.lookUp(),
    () => few.lookUp(),
  );
  const { mapsPerSecond } = many;
  few.close();
  many.close();
  return [
    { name: 'dma-map-10000', value: mapsPerSecond, unit: 'maps/s', reference: 10_000, ratio: mapsPerSecond / 10_000 },
    {
      name: 'dma-lookup-10000',
      value: seconds * 1e9,
      unit: 'ns',
      reference: 'a lookup among 100',
      ratio,
      bar: 1 / MAX_TIMES_SLOWER,
    },
  ];
}

const NO_BUFFERS: LentBuffers = {
  find: () => null,
  borrow: () => {
    throw new Error('nothing is lent here');
  },
};

const NOBODY: RemoteMemory = {
  *read() {
    return false;
  },
  *write() {
    return false;
  },
  chunkBytes: 2 ** 20,
  abort() {},
};

function newRegions(): DmaRegions {
  return new DmaRegions('bench', NOBODY, NO_BUFFERS, { maxDmaMaps: REGIONS });
}

/** A client's address space with `count` pages of one memfd. */
class Space {
  readonly mapsPerSecond: number;
  private readonly regions: DmaRegions;
  private readonly count: number;
  private readonly random = new Random(1);

  constructor(count: number) {
    this.count = count;
    this.regions = newRegions();
    runner.run(this.regions.start());
    const memfd = createMemfd('bench', 4096);
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      const iova = ((i * 7919) % count) * 8192;
      runner.run(this.regions.map({ flags: 3, offset: 0, iova, sizeBytes: 4096 }, memfd.duplicate()));
    }
    this.mapsPerSecond = count / ((performance.now() - began) / 1000);
    memfd.close();
  }

  lookUp(): void {
    // Random, since the processor would learn a repeating sequence.
    const iova = this.random.below(this.count) * 8192 + 8;
    if (this.regions.domain.find(iova) === null) throw new Error('a region is missing');
  }

  close(): void {
    runner.run(this.regions.destroy());
  }
}
