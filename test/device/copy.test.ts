/** Copies by the engine between every pair of memories that it reaches, directly or through a buffer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { DescriptorCopier } from '../../src/device/ioat/copy.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { memfdMemory } from '../../src/linux/bar-memory.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { GuardedMemory } from '../../src/linux/placed-memory.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { type DmaTarget, IOMMU_READ, IOMMU_WRITE } from '../../src/pci/dma.ts';
import { ArrayMemory, type Memory } from '../../src/pci/memory.ts';
import { done, type Task } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';

const PAGE = 4096;
const BYTES = 64 * PAGE;
const BOTH = IOMMU_READ | IOMMU_WRITE;
const MACHINE = parseMachine(
  `
machine: copies
ports: [{ name: root, kind: root }, { name: other, kind: root }]
devices:
  - { name: lender, model: memory, port: root, bars: [{ index: 0, size: 256K }] }
  - { name: engine, model: ioat, port: other }
`,
  'copies.yaml',
);

/** Six address ranges, each over another kind of memory. One of them is cut into pages. */
class Stretches {
  readonly domain = new IommuDomain('test');
  readonly lender;
  readonly engine;
  readonly strays: boolean[] = [];
  readonly written: [number, number][] = [];
  readonly memories: Memory[] = [];
  readonly copier: DescriptorCopier;

  constructor() {
    const { functions, fabric } = buildMachine(MACHINE, memfdMemory);
    this.lender = functions.get('lender')!;
    this.engine = functions.get('engine')!;
    this.engine.iommuDomain = this.domain;
    this.engine.dmaLog = { written: (address, sizeBytes) => this.written.push([address, sizeBytes]) };
    fabric.onStrayTlp = ({ isWrite }) => this.strays.push(isWrite);
    this.copier = new DescriptorCopier(this.engine, () => done(true));
    for (const fn of [this.lender, this.engine]) runner.run(fn.configWrite(PCI_COMMAND, 2, 6));
    const memfd = createMemfd('test', BYTES);
    const guarded = new GuardedMemory({ fd: memfd.fd, offset: 0, sizeBytes: BYTES, writable: true, what: 'test' });
    memfd.close();
    const remote = new ArrayMemory(BYTES);
    this.add(memfdMemory('test', BYTES));
    this.add(guarded);
    this.add(new ArrayMemory(BYTES));
    const bar = this.lender.bars[0]!;
    this.add(bar.target.memory!, { kind: 'mmio', address: bar.address });
    this.add(remote, { kind: 'remote', access: remoteOf(remote, 4 * BYTES), address: 4 * BYTES });
    const paged = memfdMemory('test', BYTES);
    for (let at = 0; at < BYTES; at += PAGE) {
      // The pages have another order in the memory.
      const offset = (at * 5) % BYTES;
      this.domain.map(5 * BYTES + at, PAGE, { kind: 'memory', memory: paged, offset }, BOTH);
    }
    this.memories.push(new Reordered(paged));
  }

  close(): void {
    for (const memory of this.memories) memory.close();
  }

  private add(memory: Memory, target: DmaTarget = { kind: 'memory', memory, offset: 0 }): void {
    this.domain.map(this.memories.length * BYTES, BYTES, target, BOTH);
    this.memories.push(memory);
  }
}

/** Memory whose pages the device sees in another order. */
class Reordered implements Memory {
  readonly sizeBytes = BYTES;
  private readonly paged: Memory;

  constructor(paged: Memory) {
    this.paged = paged;
  }

  read(offset: number, into: Uint8Array): void {
    for (let i = 0; i < into.length; i++) this.paged.read(place(offset + i), into.subarray(i, i + 1));
  }

  write(offset: number, from: Uint8Array): void {
    for (let i = 0; i < from.length; i++) this.paged.write(place(offset + i), from.subarray(i, i + 1));
  }

  close(): void {
    this.paged.close();
  }
}

const place = (at: number) => (((at - (at % PAGE)) * 5) % BYTES) + (at % PAGE);

function remoteOf(memory: Memory, base: number) {
  return {
    *read(address: number, into: Uint8Array): Task<boolean> {
      memory.read(address - base, into);
      return true;
    },
    *write(address: number, from: Uint8Array): Task<boolean> {
      memory.write(address - base, from);
      return true;
    },
    chunkBytes: 2 ** 20,
    abort() {},
  };
}

function bytesOf(memory: Memory, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  memory.read(offset, bytes);
  return bytes;
}

test('a copy moves the same bytes between any two kinds of memory, over pieces and borders', () => {
  const stretches = new Stretches();
  const { copier, memories } = stretches;
  const kind = fc.nat(memories.length - 1);
  const copy = fc.record({ from: kind, to: kind, at: fc.nat(9000), toAt: fc.nat(9000), seed: fc.nat(255) });
  const length = fc.oneof(fc.constantFrom(1, 8, 64, PAGE), fc.integer({ min: 1, max: 150_000 }));
  fc.assert(
    fc.property(copy, length, ({ from, to, at, toAt, seed }, sizeBytes) => {
      // Each half of the copy has its own range, so that no copy overlaps itself.
      const destinationAt = from === to ? BYTES - 10_000 - Math.min(sizeBytes, 90_000) + (toAt % 1000) : toAt;
      const size = from === to ? Math.min(sizeBytes, 90_000) : sizeBytes;
      const bytes = Buffer.from(Array.from({ length: size }, (_, i) => (i * 7 + seed) & 255));
      memories[from].write(at, bytes);
      const before = bytesOf(memories[to], destinationAt - 1 < 0 ? 0 : destinationAt - 1, 1);
      const source = from * BYTES + at;
      const destination = to * BYTES + destinationAt;
      const descriptor = { source, destination, sizeBytes: size, control: 0, next: 0n };
      stretches.written.length = 0;
      assert.equal(runner.run(copier.copy(descriptor, copier.copyNow(descriptor))), 0);
      assert.equal(Buffer.compare(bytesOf(memories[to], destinationAt, size), bytes), 0, `${from} to ${to}`);
      if (destinationAt > 0) assert.deepEqual(bytesOf(memories[to], destinationAt - 1, 1), before, 'nothing before it');
      const logged = stretches.written.reduce((sum, [, length]) => sum + length, 0);
      assert.equal(logged, size, 'every byte is in the log of writes');
    }),
    { numRuns: 300 },
  );
  stretches.close();
});

test('plain memory is copied at once; a BAR takes a step, and one that does not decode gets one stray request', () => {
  const stretches = new Stretches();
  const { copier, lender, strays } = stretches;
  const descriptor = (from: number, to: number) => {
    return { source: from * BYTES, destination: to * BYTES, sizeBytes: 100, control: 0, next: 0n };
  };
  for (const [from, to, isNow] of [
    [0, 1, true],
    [1, 0, true],
    [0, 2, true],
    [0, 3, false],
    [3, 0, false],
    [0, 4, false],
  ] as const) {
    assert.equal(copier.copyNow(descriptor(from, to)), isNow ? 100 : 0, `${from} to ${to}`);
  }
  runner.run(lender.configWrite(PCI_COMMAND, 2, 0));
  assert.equal(runner.run(copier.copy(descriptor(0, 3), 0)), 1 << 9, 'write data error');
  assert.equal(runner.run(copier.copy(descriptor(3, 0), 0)), 1 << 8, 'read data error');
  assert.deepEqual(strays, [true, false]);
  stretches.close();
});

test('memory that may not be read or written, and what is mapped nowhere, is an error of that half', () => {
  const stretches = new Stretches();
  const { copier, domain, engine } = stretches;
  const memory = new ArrayMemory(PAGE);
  domain.map(100 * BYTES, PAGE, { kind: 'memory', memory, offset: 0 }, IOMMU_READ);
  domain.map(101 * BYTES, PAGE, { kind: 'memory', memory, offset: 0 }, IOMMU_WRITE);
  const outcome = (source: number, destination: number) => {
    const descriptor = { source, destination, sizeBytes: 64, control: 0, next: 0n };
    return runner.run(copier.copy(descriptor, copier.copyNow(descriptor)));
  };
  assert.equal(outcome(100 * BYTES, 101 * BYTES), 0);
  assert.equal(outcome(0, 100 * BYTES), 1 << 9);
  assert.equal(outcome(101 * BYTES, 0), 1 << 8);
  assert.equal(outcome(102 * BYTES, 0), 1 << 8);
  assert.equal(outcome(0, 102 * BYTES), 1 << 9);
  assert.equal(outcome(100 * BYTES + PAGE - 8, 0), 1 << 8, 'past its end');
  runner.run(engine.configWrite(PCI_COMMAND, 2, 2));
  assert.equal(outcome(0, BYTES), 1 << 8, 'without bus mastering');
  stretches.close();
});
