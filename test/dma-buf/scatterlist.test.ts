import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Errno } from '../../src/abi/errno.ts';
import { cutRanges, cutSegments, MAX_SEGMENT_BYTES, mapPhysVec, unmapPhysVec } from '../../src/dma-buf/scatterlist.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';

const PAGE = 4096;
const GIB = 2 ** 30;

/** Devices below one root port each, under a host bridge that routes. No BAR is as large as this test's mappings. */
function peers(iommu: string) {
  const device = (name: string, port: string) => ({ name, port, model: 'memory', bars: [{ index: 0, size: '1M' }] });
  const machine = {
    machine: 'apart',
    host: { cpu: 'amd', cpuFamily: 0x17, iommu },
    ports: [
      { name: 'a', kind: 'root' },
      { name: 'b', kind: 'root' },
    ],
    devices: [device('lender', 'a'), device('borrower', 'b')],
  };
  const { functions } = buildMachine(parseMachine(JSON.stringify(machine), 'apart.yaml'));
  return { lender: functions.get('lender')!, borrower: functions.get('borrower')! };
}

const run = fc
  .tuple(fc.nat(2 ** 35), fc.integer({ min: 1, max: 2 ** 23 }))
  .map(([page, pages]) => ({ address: page * PAGE, sizeBytes: pages * PAGE }));

test('segments cover every run in order, none is longer than 32 bits hold, and none could be longer', () => {
  fc.assert(
    fc.property(fc.array(run, { minLength: 1, maxLength: 6 }), (runs) => {
      const segments = cutSegments(runs);
      assert.equal(
        segments.length,
        runs.reduce((sum, { sizeBytes }) => sum + Math.ceil(sizeBytes / MAX_SEGMENT_BYTES), 0),
      );
      let at = 0;
      for (const { address, sizeBytes } of runs) {
        for (let done = 0; done < sizeBytes; at++) {
          assert.equal(segments[at].address, address + done);
          assert.equal(segments[at].sizeBytes, Math.min(MAX_SEGMENT_BYTES, sizeBytes - done));
          done += segments[at].sizeBytes;
        }
      }
    }),
  );
  assert.equal(MAX_SEGMENT_BYTES, 0xfffff000);
});

test('8 GiB and more: one IOVA is cut by its total, each range of a passthrough domain by its own', () => {
  const ranges = [
    { address: 2 ** 42, sizeBytes: 4 * GIB },
    { address: 2 ** 43, sizeBytes: 8 * GIB },
  ];
  const sizes = (iommu: string) => {
    const { lender, borrower } = peers(iommu);
    const table = mapPhysVec(borrower, lender, ranges, 12 * GIB);
    const { segments } = table;
    unmapPhysVec(table);
    return segments.map(({ sizeBytes }) => sizeBytes);
  };
  assert.deepEqual(sizes('translated'), [0xfffff000, 0xfffff000, 0xfffff000, 0x3000]);
  for (const iommu of ['passthrough', 'none']) {
    assert.deepEqual(sizes(iommu), [0xfffff000, 0x1000, 0xfffff000, 0xfffff000, 0x2000], iommu);
  }
});

test('more segments than 32 bits count give EINVAL, before any is made', () => {
  const huge = { address: 0, sizeBytes: 0xfffff000 * 2 ** 20 };
  assert.throws(
    () => cutSegments(Array.from({ length: 4096 }, () => huge)),
    (error: Errno) => error.code === 'EINVAL',
  );
});

test('where no IOVA is left for all of it, each range gets its own; where one gets none, nothing stays mapped', () => {
  const { lender, borrower } = peers('translated');
  const domain = borrower.iommuDomain as IommuDomain;
  // Leaves only runs of at most this size.
  const limited = (most: number) =>
    Object.assign(Object.create(domain) as IommuDomain, {
      allocateIova: (sizeBytes: number) => (sizeBytes > most ? null : domain.allocateIova(sizeBytes)),
    });
  const ranges = [
    { address: 2 ** 42, sizeBytes: 2 * PAGE },
    { address: 2 ** 43, sizeBytes: 3 * PAGE },
  ];
  borrower.iommuDomain = limited(3 * PAGE);
  const table = mapPhysVec(borrower, lender, ranges, 5 * PAGE);
  assert.deepEqual(
    table.segments.map(({ sizeBytes }) => sizeBytes),
    [2 * PAGE, 3 * PAGE],
  );
  assert.equal(domain.mappingCount, 2);
  unmapPhysVec(table);
  assert.equal(domain.mappingCount, 0);
  borrower.iommuDomain = limited(2 * PAGE);
  assert.throws(
    () => mapPhysVec(borrower, lender, ranges, 5 * PAGE),
    (error: Errno) => error.code === 'ENOMEM',
  );
  assert.equal(domain.mappingCount, 0);
  assert.ok(domain instanceof IommuDomain);
});

test('a device of 32 bits gets addresses below 4 GiB, aligned, and neither the first page nor the MSI window', () => {
  const { lender, borrower } = peers('translated');
  const domain = borrower.iommuDomain as IommuDomain;
  borrower.dmaBits = 32;
  const map = (sizeBytes: number) => mapPhysVec(borrower, lender, [{ address: 2 ** 42, sizeBytes }], sizeBytes);
  // Of the four aligned runs of 1 GiB, one contains page 0 and one the window.
  const tables = [map(GIB), map(GIB)];
  assert.deepEqual(
    tables.map(({ segments }) => segments[0].address),
    [2 * GIB, GIB],
  );
  assert.throws(
    () => map(GIB),
    (error: Errno) => error.code === 'ENOMEM',
  );
  assert.equal(map(PAGE).segments[0].address, 2 ** 32 - PAGE);
  assert.equal(map(2 ** 24).segments[0].address, 0xfd000000);
  unmapPhysVec(tables[1]);
  assert.equal(map(GIB).segments[0].address, GIB);
  assert.equal(domain.mappingCount, 4);
});

test('past the IOMMU, a device of 32 bits reaches what lies below 4 GiB', () => {
  const { lender, borrower } = peers('passthrough');
  borrower.dmaBits = 32;
  const map = (address: number) => mapPhysVec(borrower, lender, [{ address, sizeBytes: PAGE }], PAGE);
  assert.equal(map(2 ** 32 - PAGE).segments[0].address, 2 ** 32 - PAGE);
  assert.throws(
    () => map(2 ** 32),
    (error: Errno) => error.code === 'ENOMEM',
  );
});

test('a cut of ranges has the bytes of that place, end to end, and nothing else', () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(sizes, fc.nat(50), fc.nat(50), (lengths, start, length) => {
      const ranges = lengths.map((sizeBytes, i) => ({ name: i, from: 0, sizeBytes }));
      const bytesOf = (some: typeof ranges) =>
        some.flatMap(({ name, from, sizeBytes }) => Array.from({ length: sizeBytes }, (_, i) => `${name}:${from + i}`));
      const parts = cutRanges(ranges, start, length, ({ name }, from, sizeBytes) => ({ name, from, sizeBytes }));
      assert.deepEqual(bytesOf(parts), bytesOf(ranges).slice(start, start + length));
      assert.ok(parts.every(({ sizeBytes }) => sizeBytes > 0));
    }),
  );
});

test('below one switch the segments are bus addresses, and the IOMMU maps nothing', () => {
  const machine = {
    machine: 'switch',
    host: { busOffset: 0x1_0000_0000 },
    ports: [
      { name: 'root', kind: 'root' },
      { name: 'up', kind: 'upstream', parent: 'root' },
      { name: 'a', kind: 'downstream', parent: 'up' },
      { name: 'b', kind: 'downstream', parent: 'up' },
    ],
    devices: ['a', 'b'].map((port) => ({ name: port, port, model: 'memory', bars: [{ index: 0, size: '1M' }] })),
  };
  const { functions } = buildMachine(parseMachine(JSON.stringify(machine), 'switch.yaml'));
  const [lender, borrower] = [functions.get('a')!, functions.get('b')!];
  const address = lender.bars[0]!.address;
  const table = mapPhysVec(borrower, lender, [{ address, sizeBytes: PAGE }], PAGE);
  const { busOffset } = lender.fabric!.hostBridge;
  assert.deepEqual(
    table.segments.map(({ address: at, sizeBytes }) => [at, sizeBytes]),
    [[address + busOffset, PAGE]],
  );
  assert.equal((borrower.iommuDomain as IommuDomain).mappingCount, 0);
});

test('as Linux 7.3, one range gets an IOVA and several are EADDRINUSE, with nothing kept', () => {
  const { lender, borrower } = peers('translated');
  const domain = borrower.iommuDomain as IommuDomain;
  const ranges = [
    { address: 2 ** 42, sizeBytes: PAGE },
    { address: 2 ** 43, sizeBytes: PAGE },
  ];
  const linux = { oneRangeByIova: true };
  const first = mapPhysVec(borrower, lender, ranges.slice(1), PAGE, linux);
  const { address } = first.segments[0];
  unmapPhysVec(first);
  assert.throws(() => mapPhysVec(borrower, lender, ranges, 2 * PAGE, linux), { code: 'EADDRINUSE' });
  assert.equal(domain.mappingCount, 0);
  const again = mapPhysVec(borrower, lender, ranges.slice(1), PAGE, linux);
  assert.equal(again.segments[0].address, address);
  unmapPhysVec(again);
});
