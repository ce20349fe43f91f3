/** The tree between host bridge and functions: numbers, addresses, groups, and the routes of requests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { Bar, type BarKind, MemoryTarget } from '../../src/pci/bar.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { type DmaStatus, IOMMU_READ, IOMMU_WRITE } from '../../src/pci/dma.ts';
import { Fabric, type StrayTlp } from '../../src/pci/fabric.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { type AcsControl, Port } from '../../src/pci/port.ts';
import { runner } from '../../src/task/runner.ts';
import { HOST } from '../vfio/rig.ts';

const PAGE = 4096;
const MEMORY_AND_MASTER = 6;

function functionWith(name: string, bars: readonly [kind: BarKind, sizeBytes: number][]): PciFunction {
  const slots: (Bar | null)[] = [null, null, null, null, null, null];
  for (const [i, [kind, sizeBytes]] of bars.entries()) {
    const index = 2 * i;
    slots[index] = new Bar(index, kind, false, sizeBytes, new MemoryTarget(new ArrayMemory(sizeBytes)));
  }
  return new PciFunction({ name, config: new ConfigSpace(), bars: slots });
}

/** root a: a switch with two slots; root b: one slot. Each slot has a function with a one-page BAR. */
function tree(acs: Record<string, Partial<AcsControl>> = {}, busOffset = 0, memory: ArrayMemory | null = null) {
  const a = new Port('a', 'root', null, acs.a);
  const up = new Port('up', 'upstream', a, acs.up);
  const slots = {
    one: new Port('d0', 'downstream', up, acs.d0),
    two: new Port('d1', 'downstream', up, acs.d1),
    far: new Port('b', 'root', null, acs.b),
  };
  const fns: Record<string, PciFunction> = {};
  for (const [name, port] of Object.entries(slots)) {
    fns[name] = functionWith(name, [['mem64', PAGE]]);
    port.functions.push(fns[name]);
  }
  const fabric = new Fabric({ ...HOST, busOffset }, [a, slots.far], memory);
  for (const fn of Object.values(fns)) runner.run(fn.configWrite(PCI_COMMAND, 2, MEMORY_AND_MASTER));
  return { fabric, fns, slots, up };
}

function write(fn: PciFunction, address: number, text: string): DmaStatus {
  return runner.run(fn.dmaWrite(address, Buffer.from(text)));
}

function contents(fn: PciFunction, offset: number, length: number): string {
  const bytes = Buffer.alloc(length);
  fn.bars[0]!.target.read(offset, bytes);
  return bytes.toString();
}

test('buses are numbered depth first, and functions by their slots', () => {
  const { fns, slots, up } = tree();
  assert.deepEqual([fns.one.bdf, fns.two.bdf, fns.far.bdf], ['0000:03:00.0', '0000:04:00.0', '0000:05:00.0']);
  assert.deepEqual([up.secondaryBus, up.subordinateBus, slots.far.secondaryBus], [2, 4, 5]);
  const root = new Port('root', 'root', null);
  const pair = [functionWith('f0', []), functionWith('f1', [])];
  root.functions.push(...pair);
  new Fabric(HOST, [root]);
  assert.deepEqual(
    pair.map((fn) => fn.bdf),
    ['0000:01:00.0', '0000:01:00.1'],
  );
});

test('every BAR lies at a multiple of its size, overlaps no other, and is found by each of its bytes', () => {
  const kind = fc.constantFrom<BarKind>('mem32', 'mem64', 'io');
  // The PCI specification limits an I/O BAR to 256 bytes.
  const bar = fc
    .tuple(kind, fc.integer({ min: 4, max: 20 }))
    .map(([of, bits]): [BarKind, number] => [of, 2 ** (of === 'io' ? Math.min(bits, 8) : bits)]);
  fc.assert(
    fc.property(fc.array(fc.array(bar, { maxLength: 3 }), { minLength: 1, maxLength: 5 }), (shapes) => {
      const ports = shapes.map((bars, i) => {
        const port = new Port(`p${i}`, 'root', null);
        port.functions.push(functionWith(`f${i}`, bars));
        return port;
      });
      const fabric = new Fabric(HOST, ports);
      const all = fabric.functions.flatMap((fn) => fn.bars.flatMap((one) => (one === null ? [] : [{ fn, bar: one }])));
      for (const { fn, bar: one } of all) {
        assert.equal(one.address % one.sizeBytes, 0);
        assert.equal(one.kind === 'mem32' ? one.address + one.sizeBytes <= 2 ** 32 : true, true);
        if (one.kind === 'io') continue;
        for (const offset of [0, one.sizeBytes - 1]) {
          assert.deepEqual(fabric.decode(one.address + offset), { fn, bar: one, offset });
        }
        for (const { bar: other } of all) {
          if (other === one || other.kind === 'io') continue;
          assert.ok(one.address + one.sizeBytes <= other.address || other.address + other.sizeBytes <= one.address);
        }
      }
      assert.equal(fabric.decode(0), null);
    }),
    { numRuns: 60 },
  );
});

test('functions that reach each other below the root complex share a group, unless ports redirect', () => {
  const groups = (acs: Record<string, Partial<AcsControl>>) => {
    const { one, two, far } = tree(acs).fns;
    return [one, two, far].map((fn) => [one, two, far].findIndex((other) => other.iommuGroup === fn.iommuGroup));
  };
  const redirect = { requestRedirect: true };
  assert.deepEqual(groups({}), [0, 0, 2]);
  assert.deepEqual(groups({ d0: redirect, d1: redirect, up: redirect }), [0, 1, 2]);
  assert.deepEqual(groups({ d0: redirect, d1: redirect }), [0, 0, 2]);
  assert.deepEqual(groups({ d0: redirect, up: redirect }), [0, 1, 2]);
  // ACS of a root port separates nothing below it.
  assert.deepEqual(groups({ a: redirect, b: redirect }), [0, 0, 2]);
});

test('groups count from 1, in the order in which the functions are found', () => {
  const { fns } = tree();
  assert.deepEqual(
    [fns.one, fns.two, fns.far].map((fn) => fn.iommuGroup),
    [1, 1, 2],
  );
});

test('below a switch peers meet by bus address, whatever the IOMMU says', () => {
  for (const busOffset of [0, 0x10_0000]) {
    const { fns } = tree({}, busOffset);
    fns.one.iommuDomain = new IommuDomain('empty');
    const bus = fns.two.bars[0]!.address + busOffset;
    assert.equal(write(fns.one, bus + 8, 'hello'), 'ok');
    assert.equal(contents(fns.two, 8, 5), 'hello');
    assert.equal(write(fns.one, 2 * bus, 'x'), 'iommu-fault');
    // If the two differ, a host address is not valid on this bus.
    if (busOffset !== 0) assert.equal(write(fns.one, bus - busOffset, 'x'), 'iommu-fault');
  }
});

test('a redirecting port on the way up, and no other, sends the request to the IOMMU', () => {
  const redirect = { requestRedirect: true };
  const reaches = (acs: Record<string, Partial<AcsControl>>): DmaStatus => {
    const { fns } = tree(acs);
    fns.one.iommuDomain = new IommuDomain('empty');
    return write(fns.one, fns.two.bars[0]!.address, 'x');
  };
  assert.equal(reaches({ d0: redirect }), 'iommu-fault');
  assert.equal(reaches({ d1: redirect }), 'ok');
  assert.equal(reaches({ up: redirect }), 'ok');
  assert.equal(reaches({ d0: { completionRedirect: true } }), 'ok');
});

test('at the root complex without translation an address is a host address, for peers and for memory', () => {
  for (const busOffset of [0, 0x10_0000]) {
    for (const domain of [null, new IommuDomain('identity', { translates: false })]) {
      const memory = new ArrayMemory(4 * PAGE);
      const { fns } = tree({}, busOffset, memory);
      fns.far.iommuDomain = domain;
      const { address } = fns.one.bars[0]!;
      assert.equal(write(fns.far, address + 16, 'peer'), 'ok', `bus offset ${busOffset}`);
      assert.equal(contents(fns.one, 16, 4), 'peer');
      assert.equal(write(fns.far, PAGE, 'memory'), 'ok');
      const read = Buffer.alloc(6);
      assert.equal(runner.run(fns.far.dmaRead(PAGE, read)), 'ok');
      assert.equal(read.toString(), 'memory');
      memory.read(PAGE, read);
      assert.equal(read.toString(), 'memory');
      assert.equal(write(fns.far, 4 * PAGE - 2, 'past'), 'unsupported-request');
    }
  }
});

test('without memory and without a peer nobody answers', () => {
  const { fns } = tree();
  assert.equal(write(fns.far, PAGE, 'x'), 'unsupported-request');
});

test('a translating domain decides at the root complex, and keeps read from write', () => {
  const { fns } = tree();
  const domain = new IommuDomain('far');
  fns.far.iommuDomain = domain;
  const target = { kind: 'mmio', address: fns.one.bars[0]!.address } as const;
  domain.map(0x5000, PAGE, target, IOMMU_READ);
  domain.map(0x6000, PAGE, target, IOMMU_WRITE);
  assert.equal(write(fns.far, 0x5000, 'x'), 'iommu-fault');
  assert.equal(write(fns.far, 0x6004, 'x'), 'ok');
  assert.equal(contents(fns.one, 4, 1), 'x');
  assert.equal(runner.run(fns.far.dmaRead(0x6000, new Uint8Array(1))), 'iommu-fault');
  assert.equal(write(fns.far, fns.one.bars[0]!.address, 'x'), 'iommu-fault');
});

test("a domain that owns the bus comes before any peer: the fabric's addresses mean nothing there", () => {
  const { fns } = tree();
  fns.one.iommuDomain = new IommuDomain('client', { ownsBus: true });
  assert.equal(write(fns.one, fns.two.bars[0]!.address, 'x'), 'iommu-fault');
});

test('a request is cut where a mapping ends, and stops at the first piece that fails', () => {
  const { fns } = tree();
  const domain = new IommuDomain('far');
  fns.far.iommuDomain = domain;
  const memory = new ArrayMemory(2 * PAGE);
  domain.map(0x5000, PAGE, { kind: 'memory', memory, offset: PAGE }, IOMMU_WRITE);
  domain.map(0x6000, PAGE, { kind: 'memory', memory, offset: 0 }, IOMMU_WRITE);
  assert.equal(write(fns.far, 0x5ffe, 'abcd'), 'ok');
  const seen = Buffer.alloc(2);
  memory.read(2 * PAGE - 2, seen);
  assert.equal(seen.toString(), 'ab');
  memory.read(0, seen);
  assert.equal(seen.toString(), 'cd');
  assert.equal(write(fns.far, 0x6ffe, 'efgh'), 'iommu-fault');
  memory.read(PAGE - 2, seen);
  assert.equal(seen.toString(), 'ef', 'what came before the fault is written');
});

test('without bus mastering nothing is sent; a BAR that does not decode is a stray request', () => {
  const { fabric, fns } = tree();
  const strays: StrayTlp[] = [];
  fabric.onStrayTlp = (tlp) => strays.push(tlp);
  const address = fns.two.bars[0]!.address + 12;
  runner.run(fns.one.configWrite(PCI_COMMAND, 2, 2));
  assert.equal(write(fns.one, address, 'x'), 'bus-master-off');
  runner.run(fns.one.configWrite(PCI_COMMAND, 2, MEMORY_AND_MASTER));
  runner.run(fns.two.configWrite(PCI_COMMAND, 2, 4));
  assert.equal(write(fns.one, address, 'x'), 'unsupported-request');
  assert.deepEqual(strays, [{ requester: fns.one, target: fns.two, bar: 0, offset: 12, isWrite: true }]);
});

test('memory that is gone, or was never to be written, answers nobody; a defect is not hidden', () => {
  const { fns } = tree();
  const domain = new IommuDomain('far');
  fns.far.iommuDomain = domain;
  domain.map(0x5000, PAGE, { kind: 'memory', memory: new ArrayMemory(8), offset: 0 }, IOMMU_WRITE);
  assert.equal(write(fns.far, 0x5000, 'longer than eight'), 'unsupported-request');
  const broken = new ArrayMemory(PAGE);
  broken.write = () => {
    throw new TypeError('a defect');
  };
  domain.map(0x6000, PAGE, { kind: 'memory', memory: broken, offset: 0 }, IOMMU_WRITE);
  assert.throws(() => write(fns.far, 0x6000, 'x'), TypeError);
});

test('a request without steps stays inside one mapping, though the memory behind it goes on', () => {
  const { fns } = tree();
  const domain = new IommuDomain('far');
  fns.far.iommuDomain = domain;
  const memory = new ArrayMemory(2 * PAGE);
  domain.map(0x5000, PAGE, { kind: 'memory', memory, offset: 0 }, IOMMU_READ | IOMMU_WRITE);
  assert.equal(fns.far.dmaWriteNow(0x5ffe, Buffer.from('ab')), 'ok');
  assert.equal(fns.far.dmaWriteNow(0x5fff, Buffer.from('cd')), null);
  assert.equal(fns.far.dmaReadNow(0x5fff, new Uint8Array(2)), null);
  const seen = Buffer.alloc(4);
  memory.read(PAGE - 2, seen);
  assert.equal(seen.toString(), 'ab\0\0');
});
