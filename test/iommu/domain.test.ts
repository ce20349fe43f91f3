import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { HOST_RESERVED, IommuDomain } from '../../src/iommu/domain.ts';
import { type DmaTarget, IOMMU_READ, IOMMU_WRITE } from '../../src/pci/dma.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const BOTH = IOMMU_READ | IOMMU_WRITE;
const bar = (address: number): DmaTarget => ({ kind: 'mmio', address });
const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

/** A domain with pages 16 to 19 and 24 to 27. */
function withTwo(): IommuDomain {
  const domain = new IommuDomain('test');
  domain.map(24 * PAGE, 4 * PAGE, bar(0x2000_0000), IOMMU_READ);
  domain.map(16 * PAGE, 4 * PAGE, bar(0x1000_0000), BOTH);
  return domain;
}

test('an address means the mapping that holds it, from its first byte to its last', () => {
  const domain = withTwo();
  for (const [iova, target] of [
    [16 * PAGE, 0x1000_0000],
    [20 * PAGE - 1, 0x1000_0000],
    [24 * PAGE, 0x2000_0000],
    [28 * PAGE - 1, 0x2000_0000],
  ]) {
    assert.deepEqual(domain.find(iova)?.target, bar(target));
  }
  for (const iova of [0, 16 * PAGE - 1, 20 * PAGE, 24 * PAGE - 1, 28 * PAGE]) assert.equal(domain.find(iova), null);
  assert.deepEqual(
    domain.list().map(({ iova, sizeBytes, prot }) => [iova / PAGE, sizeBytes / PAGE, prot]),
    [
      [16, 4, BOTH],
      [24, 4, IOMMU_READ],
    ],
    'in order of IOVA',
  );
});

test('map refuses what is not whole pages and what overlaps; neighbours are fine', () => {
  const domain = withTwo();
  for (const [iova, bytes] of [
    [100, PAGE],
    [32 * PAGE, 100],
    [32 * PAGE, 0],
    [32 * PAGE, -PAGE],
    [32 * PAGE + 1, PAGE],
  ]) {
    assert.throws(
      () => domain.map(iova, bytes, bar(0), BOTH),
      refused('EINVAL', /not whole pages/),
      `${iova}+${bytes}`,
    );
  }
  for (const [page, pages] of [
    [16, 4],
    [15, 2],
    [19, 1],
    [17, 2],
    [0, 64],
    [20, 5],
    [27, 9],
  ]) {
    const map = () => domain.map(page * PAGE, pages * PAGE, bar(0), BOTH);
    assert.throws(map, refused('EEXIST', /is mapped already/), `${page}+${pages}`);
  }
  assert.equal(domain.mappingCount, 2, 'a map that was refused changes nothing');
  domain.map(20 * PAGE, 4 * PAGE, bar(0), BOTH);
  domain.map(15 * PAGE, PAGE, bar(0), BOTH);
  domain.map(28 * PAGE, PAGE, bar(0), BOTH);
  assert.equal(domain.mappingCount, 5);
});

test('unmap takes whole mappings, counts their bytes, and cuts none', () => {
  const domain = withTwo();
  for (const [page, pages] of [
    [17, 1],
    [15, 2],
    [16, 3],
    [19, 9],
    [0, 26],
    [18, 8],
  ]) {
    const unmap = () => domain.unmap(page * PAGE, pages * PAGE);
    assert.throws(unmap, refused('EINVAL', /would cut the mapping/), `${page}+${pages}`);
    assert.equal(domain.mappingCount, 2, 'and nothing changes');
  }
  assert.equal(domain.unmap(20 * PAGE, 4 * PAGE), 0, 'nothing is between them');
  assert.equal(domain.unmap(28 * PAGE, 4 * PAGE), 0);
  assert.equal(domain.unmap(16 * PAGE, 4 * PAGE), 4 * PAGE);
  assert.equal(domain.find(16 * PAGE), null);
  assert.notEqual(domain.find(24 * PAGE), null, 'the other one stays');
  domain.map(16 * PAGE, 4 * PAGE, bar(0), BOTH);
  assert.equal(domain.unmap(0, 64 * PAGE), 8 * PAGE, 'both at once, and the gaps');
  assert.deepEqual(domain.list(), []);
});

test('runs of addresses: each is free, and those that come back are given out again', () => {
  const domain = new IommuDomain('test');
  const first = domain.allocateIova(PAGE)!;
  assert.equal(first, 4 * GIB, 'above what 32 bits reach');
  const second = domain.allocateIova(3 * PAGE)!;
  assert.equal(second, first + PAGE);
  const third = domain.allocateIova(PAGE)!;
  assert.equal(third, second + 3 * PAGE);
  domain.freeIova(first, PAGE);
  assert.equal(domain.allocateIova(3 * PAGE), third + PAGE, 'a run of another size is not cut up');
  assert.equal(domain.allocateIova(PAGE), first, 'one that came back');
  domain.freeIova(first, PAGE);
  domain.freeIova(second, 3 * PAGE);
  assert.deepEqual([domain.allocateIova(3 * PAGE), domain.allocateIova(PAGE)], [second, first]);
  const last = domain.allocateIova(PAGE)!;
  domain.freeIova(last, PAGE);
  assert.equal(domain.allocateIova(2 * PAGE), last, 'the last run that comes back is room again');
  domain.freeIova(PAGE, PAGE);
  assert.notEqual(domain.allocateIova(PAGE), PAGE, 'an address below 4 GiB was mapped, not kept');
});

test('no run reaches past 48 bits', () => {
  const domain = new IommuDomain('test');
  const all = 2 ** 48 - 4 * GIB;
  assert.equal(domain.allocateIova(all + PAGE), null);
  assert.equal(domain.allocateIova(all), 4 * GIB);
  assert.equal(domain.allocateIova(PAGE), null);
});

test('a device of 32 bits gets the highest free run, aligned to its size, beside interrupts and what is reserved', () => {
  const domain = new IommuDomain('test', { reserved: [{ iova: 0xfff00000, end: 0x1_0000_0000 }] });
  const allocate = (bytes: number) => {
    const iova = domain.allocateIova(bytes, 32);
    if (iova !== null) domain.map(iova, bytes, bar(0), BOTH);
    return iova;
  };
  assert.equal(allocate(PAGE), 0xffeff000, 'below what is reserved');
  assert.equal(allocate(PAGE), 0xffefe000, 'below what is mapped');
  assert.equal(allocate(3 * PAGE), 0xffef8000, 'at a multiple of four pages');
  assert.equal(allocate(16 << 20), 0xfd000000, 'below the window of interrupts, which is in its way');
  assert.equal(allocate(2 * GIB), null, 'never the run at 0');
  const beside = new IommuDomain('test', { reserved: [{ iova: 0xffffe000, end: 0xfffff000 }] });
  assert.equal(beside.allocateIova(PAGE, 32), 0xfffff000, 'right behind what is reserved');
});

test('a domain translates and shares its bus, unless it is told otherwise', () => {
  const { translates, ownsBus, reserved } = new IommuDomain('test');
  assert.deepEqual({ translates, ownsBus, reserved }, { translates: true, ownsBus: false, reserved: [] });
  assert.equal(new IommuDomain('test', { translates: false }).translates, false);
  assert.equal(new IommuDomain('test', { ownsBus: true }).ownsBus, true);
});

test('what VT-d does not translate', () => {
  const holds = (iova: number) => HOST_RESERVED.some((range) => range.iova <= iova && iova < range.end);
  assert.ok(holds(0xfee00000) && holds(0xfeefffff) && holds(2 ** 48));
  assert.ok(!holds(0xfedfffff) && !holds(0xfef00000) && !holds(2 ** 48 - 1));
});
