/** One import of a dma-buf: slices that end in ranges and between them, and its single reference to the buffer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DmaBuf } from '../../src/dma-buf/dma-buf.ts';
import { FdTable } from '../../src/dma-buf/file.ts';
import { buildMachine } from '../../src/machine/build.ts';
import { parseMachine } from '../../src/machine/load.ts';
import { done } from '../../src/task/op.ts';
import { runner } from '../../src/task/runner.ts';
import { exportAreas } from '../../src/vfio/dmabuf-export.ts';
import { buildVfioDevices } from '../../src/vfio/driver.ts';
import { IoptPages } from '../../src/vfio/iopt-pages.ts';
import { PROFILES } from '../../src/vfio/profile.ts';

const PAGE = 4096;
const MACHINE = `
machine: one
ports: [{ name: slot, kind: root }]
devices: [{ name: lender, model: memory, port: slot, bars: [{ index: 0, size: 1M }] }]
`;

function rig(ranges: readonly [firstPage: number, pages: number][]) {
  const { functions } = buildMachine(parseMachine(MACHINE, 'one.yaml'));
  const vdev = buildVfioDevices(functions, PROFILES.default).get('lender')!;
  runner.run(vdev.open());
  const files = new FdTable();
  const areas = ranges.map(([first, pages]) => ({
    regionIndex: 0,
    offset: BigInt(first * PAGE),
    length: BigInt(pages * PAGE),
  }));
  const unused = () => {
    throw new Error('no eventfds here');
  };
  const caller = { files, eventSignal: unused, eventSource: unused };
  const dmabuf = files.lookup(runner.run(exportAreas(vdev, areas, 2, caller)));
  assert.ok(dmabuf instanceof DmaBuf);
  const start = functions.get('lender')!.bars[0]!.address;
  const addresses = ranges.flatMap(([first, pages]) =>
    Array.from({ length: pages }, (_, i) => start + (first + i) * PAGE),
  );
  const importOf = (at: number, length: number, several = true): IoptPages =>
    runner.run(
      (function* () {
        yield* dmabuf.get();
        return yield* IoptPages.import(done(dmabuf), BigInt(at), BigInt(length), { severalRanges: several });
      })(),
    );
  return { vdev, dmabuf, files, addresses, importOf };
}

test('any slice is the pages that it names, whether it ends in a range or between two', () => {
  const { addresses, importOf } = rig([
    [8, 2],
    [3, 1],
    [20, 3],
  ]);
  const pages = addresses.length;
  fc.assert(
    fc.property(fc.nat(pages - 1), fc.nat(pages - 1), fc.integer({ min: 1, max: pages }), (from, at, length) => {
      const first = Math.min(from, pages - 1);
      const available = pages - first;
      const start = Math.min(at, available - 1);
      const count = Math.min(length, available - start);
      const imported = importOf(first * PAGE, available * PAGE);
      const slice = imported.slice(start * PAGE, count * PAGE);
      const seen = slice.flatMap(({ address, sizeBytes }) =>
        Array.from({ length: sizeBytes / PAGE }, (_, i) => address + i * PAGE),
      );
      assert.deepEqual(seen, addresses.slice(first + start, first + start + count));
      assert.ok(slice.every(({ sizeBytes }) => sizeBytes > 0));
      runner.run(imported.put());
    }),
  );
});

test('a start in the middle of a page begins at the page', () => {
  const { addresses, importOf } = rig([[8, 2]]);
  assert.deepEqual(importOf(PAGE + 8, 16).slice(0, PAGE), [{ address: addresses[1], sizeBytes: PAGE }]);
});

test('imports that make no sense are refused, and keep no reference', () => {
  const { importOf, dmabuf } = rig([
    [0, 1],
    [2, 1],
  ]);
  const before = dmabuf.count.value;
  assert.throws(() => importOf(PAGE, 2 * PAGE), { code: 'EINVAL' });
  assert.throws(() => importOf(0, 2 * PAGE, false), { code: 'EOPNOTSUPP' });
  assert.equal(dmabuf.count.value, before);
  assert.equal(dmabuf.attachments.get().length, 0);
});

test('a revoke empties it for good, and the last put gives attachment and buffer back', () => {
  const { vdev, importOf, dmabuf } = rig([[0, 2]]);
  const imported = importOf(0, 2 * PAGE);
  assert.equal(imported.isRevoked, false);
  runner.run(vdev.write(7, 4, Uint8Array.of(0, 0)));
  assert.equal(imported.isRevoked, true);
  assert.deepEqual(imported.slice(0, PAGE), []);
  runner.run(vdev.write(7, 4, Uint8Array.of(2, 0)));
  assert.equal(imported.isRevoked, true);
  runner.run(imported.get());
  runner.run(imported.put());
  assert.equal(dmabuf.attachments.get().length, 1);
  runner.run(imported.put());
  assert.equal(dmabuf.attachments.get().length, 0);
  assert.equal(dmabuf.count.value, 1);
});

test('a buffer that lends nothing now cannot be imported', () => {
  const { vdev, importOf, dmabuf } = rig([[0, 2]]);
  runner.run(vdev.write(7, 4, Uint8Array.of(0, 0)));
  assert.throws(() => importOf(0, PAGE), { code: 'ENODEV' });
  assert.equal(dmabuf.count.value, 1);
});
