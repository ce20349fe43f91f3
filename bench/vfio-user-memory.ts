/** DMA through mapped guest memory against memcpy, and an address space of ten thousand regions. */

import type { BenchResult } from '../src/cli/bench.ts';
import { Pinned, sys } from '../src/linux/ffi.ts';
import { createMemfd } from '../src/linux/memfd.ts';
import { openSharedMemory } from '../src/linux/shared-memory.ts';
import { runner } from '../src/task/runner.ts';
import { DmaRegions, type LentBuffers } from '../src/vfio-user/dma-regions.ts';

const COPY_BYTES = 1 << 20;
const RUNS = 9;
const COPIES = 200;
const MEMCPY_BAR = 0.9;
const REGIONS = 10_000;
/**
 * A lookup among 10,000 may cost so many times one among 100: a binary search twice and its misses, a walk a hundred.
 */
const MOST_TIMES_SLOWER = 8;

export function benchMemory(): BenchResult[] {
  return [benchCopy(), ...benchMaps()];
}

/** Medians of alternating runs, in seconds for one call. */
function alternate(calls: number, ...bodies: (() => void)[]): number[] {
  const times = bodies.map((): number[] => []);
  for (let run = 0; run < RUNS; run++) {
    for (const [i, body] of bodies.entries()) {
      const began = performance.now();
      for (let call = 0; call < calls; call++) body();
      times[i].push((performance.now() - began) / 1000 / calls);
    }
  }
  return times.map((each) => each.sort((a, b) => a - b)[Math.floor(RUNS / 2)]);
}

/** A megabyte from mapped memory of a client into a buffer of a device. */
function benchCopy(): BenchResult {
  const memory = openSharedMemory(createMemfd('bench', COPY_BYTES), 0, COPY_BYTES, true);
  const into = new Pinned(COPY_BYTES);
  const from = new Pinned(COPY_BYTES);
  memory.write(0, from.bytes);
  const [dma, memcpy] = alternate(
    COPIES,
    () => memory.read(0, into.bytes),
    () => sys.memcpy(into.address, from.address, COPY_BYTES),
  );
  memory.close();
  return {
    name: 'dma-copy-1MiB',
    value: COPY_BYTES / dma / 2 ** 30,
    unit: 'GiB/s',
    reference: 'memcpy',
    ratio: memcpy / dma,
    bar: MEMCPY_BAR,
  };
}

function benchMaps(): BenchResult[] {
  const few = new Space(100);
  const many = new Space(REGIONS);
  const [small, large] = alternate(
    20_000,
    () => few.lookUp(),
    () => many.lookUp(),
  );
  const { mapsPerSecond } = many;
  few.close();
  many.close();
  return [
    { name: 'dma-map-10000', value: mapsPerSecond, unit: 'maps/s', reference: 10_000, ratio: mapsPerSecond / 10_000 },
    {
      name: 'dma-lookup-10000',
      value: large * 1e9,
      unit: 'ns',
      reference: 'a lookup among 100',
      ratio: small / large,
      bar: 1 / MOST_TIMES_SLOWER,
    },
  ];
}

const NO_BUFFERS: LentBuffers = {
  find: () => null,
  borrow: () => {
    throw new Error('nothing is lent here');
  },
};

/** An address space of a client with so many pages of one memfd. */
class Space {
  readonly mapsPerSecond: number;
  private readonly regions: DmaRegions;
  private readonly count: number;
  private next = 0;

  constructor(count: number) {
    const nobody = {
      *read() {
        return false;
      },
      *write() {
        return false;
      },
      abort() {},
    };
    this.count = count;
    this.regions = new DmaRegions('bench', nobody, NO_BUFFERS, { maxDmaMaps: 65535, pageBytes: 4096 });
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
    this.next = (this.next + 7919) % this.count;
    if (this.regions.domain.find(this.next * 8192 + 8) === null) throw new Error('a region is missing');
  }

  close(): void {
    runner.run(this.regions.destroy());
  }
}
