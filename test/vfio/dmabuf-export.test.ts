/** The two forms of an export in the first patches, as the TypeScript API offers them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { O_CLOEXEC, O_RDWR } from '../../src/abi/fcntl.ts';
import { DMA_BIDIRECTIONAL, DmaBuf } from '../../src/dma-buf/dma-buf.ts';
import {
  buildMachine,
  buildVfioDevices,
  type DmaArea,
  exportAreas,
  exportSlice,
  FdTable,
  loadMachine,
  PROFILES,
  runner,
  type Task,
} from '../../src/index.ts';
import { DONE } from '../../src/task/op.ts';

const MIB = 1 << 20;
const machine = new URL('../../examples/two-peers.yaml', import.meta.url).pathname;

function start() {
  const { functions } = buildMachine(loadMachine(machine));
  const lender = buildVfioDevices(functions, PROFILES.default).get('lender')!;
  const files = new FdTable();
  const unused = () => {
    throw new Error('no eventfds here');
  };
  const caller = { files, eventSignal: unused, eventSource: unused };
  runner.run(lender.open());
  const made = (task: Task<number>): DmaBuf => {
    const file = files.lookup(runner.run(task));
    assert.ok(file instanceof DmaBuf);
    return file;
  };
  const area = (regionIndex: number, offset: number, length: number): DmaArea => ({
    regionIndex,
    offset: BigInt(offset),
    length: BigInt(length),
  });
  const flags = O_RDWR | O_CLOEXEC;
  return {
    lender,
    borrower: functions.get('borrower')!,
    files,
    area,
    slice: (region: number, offset: number, length: number, openFlags = flags) =>
      made(exportSlice(lender, area(region, offset, length), openFlags, caller)),
    areas: (areas: DmaArea[], openFlags = flags) => made(exportAreas(lender, areas, openFlags, caller)),
  };
}

test('one offset and length: a slice, or with 0 and 0 the whole region', () => {
  const { slice } = start();
  assert.equal(slice(0, 0, 0).sizeBytes, 64 * MIB);
  assert.equal(slice(2, 0, 0).sizeBytes, 4096);
  assert.equal(slice(0, 8192, 4096).sizeBytes, 4096);
  assert.throws(() => slice(0, 4096, 0), /EINVAL: range 0/);
  assert.throws(() => slice(1, 0, 0), /ENODEV: region 1/);
  assert.throws(() => slice(7, 0, 0), /ENODEV: region 7/);
  assert.throws(() => slice(0, 0, 0, 0x8000_0000), /EINVAL: open_flags/);
});

test('areas that each name their region lie one behind the other, in one region or in several', () => {
  const { lender, borrower, areas, area } = start();
  const dmabuf = areas([area(2, 0, 4096), area(0, 8192, 8192), area(0, 0, 4096)]);
  assert.equal(dmabuf.sizeBytes, 4 * 4096);
  const attach = dmabuf.attach(borrower, { allowPeer2Peer: true, invalidateMappings: () => DONE });
  const attachment = runner.run(attach);
  const { segments } = runner.run(dmabuf.mapUnlocked(attachment, DMA_BIDIRECTIONAL));
  const [bar0, , bar2] = lender.pdev.bars;
  assert.deepEqual(segments, [
    { address: bar2!.address, sizeBytes: 4096 },
    { address: bar0!.address + 8192, sizeBytes: 8192 },
    { address: bar0!.address, sizeBytes: 4096 },
  ]);
});

test('areas are refused as ranges are, and a refusal leaves nothing', () => {
  const { lender, files, areas, area } = start();
  const registrations = lender.registration.refcount.value;
  assert.throws(() => areas([]), /EINVAL/);
  assert.throws(() => areas([area(0, 0, 4096), area(3, 0, 4096)]), /ENODEV: region 3/);
  assert.throws(
    () => areas([area(0, 0, 4096), area(2, 0, 8192)]),
    /EINVAL: range 1 ends past the 4096 bytes of region 2/,
  );
  assert.throws(() => areas([area(0, 100, 4096)]), /EINVAL: range 0/);
  assert.throws(() => areas([area(0, 0, 4096)], 3), /EINVAL: open_flags/);
  assert.equal(lender.registration.refcount.value, registrations);
  assert.equal(files.openCount, 0);
});
