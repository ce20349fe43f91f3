/** The log of DMA writes against a set of pages, for any writes and queries. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runner } from '../../src/task/runner.ts';
import { DmaLog, MAX_LOG_BLOCKS } from '../../src/vfio/dma-logging.ts';

const PAGE = 4096;
const BASE = 2 ** 40;

function bits(bitmap: Uint8Array): number[] {
  return [...bitmap].flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((b) => 8 * i + b),
  );
}

const reportOf = (log: DmaLog, iova: bigint, length: bigint, pageSize: bigint) =>
  runner.run(log.report(iova, length, pageSize));

test('a report has a bit for each of its pages that was written since the last, and no other', () => {
  const write = fc.record({ at: fc.nat(300 * PAGE), bytes: fc.integer({ min: 1, max: 20_000 }) });
  const report = fc.record({
    page: fc.nat(300),
    pages: fc.integer({ min: 1, max: 200 }),
    shift: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(fc.oneof(write, report), { maxLength: 30 }), (steps) => {
      const log = new DmaLog(BigInt(PAGE), []);
      const dirty = new Set<number>();
      for (const step of steps) {
        if ('bytes' in step) {
          log.written(BASE + step.at, step.bytes);
          const last = Math.floor((step.at + step.bytes - 1) / PAGE);
          for (let page = Math.floor(step.at / PAGE); page <= last; page++) dirty.add(page);
          continue;
        }
        const size = PAGE << step.shift;
        const told = bits(reportOf(log, BigInt(BASE + step.page * PAGE), BigInt(step.pages * PAGE), BigInt(size)));
        const wanted = new Set<number>();
        for (const page of [...dirty]) {
          if (page < step.page || page >= step.page + step.pages) continue;
          dirty.delete(page);
          wanted.add(Math.floor(((page - step.page) * PAGE) / size));
        }
        assert.deepEqual(
          told,
          [...wanted].sort((a, b) => a - b),
        );
      }
    }),
  );
});

test('a report may begin and end inside of a page, at any address', () => {
  const base = fc.constantFrom(0n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 2n ** 21n);
  const query = { skew: fc.bigInt(0n, 40_000n), length: fc.bigInt(1n, 400_000n), shift: fc.nat(4) };
  fc.assert(
    fc.property(base, fc.uniqueArray(fc.nat(120), { maxLength: 20 }), fc.record(query), (at, pages, asked) => {
      const log = new DmaLog(BigInt(PAGE), []);
      for (const page of pages) log.written(Number(at) + page * PAGE, 1);
      const [iova, size] = [at + asked.skew, BigInt(PAGE) << BigInt(asked.shift)];
      const end = iova + asked.length;
      const wanted = new Set<number>();
      for (const page of pages) {
        const start = at + BigInt(page * PAGE);
        const [from, to] = [start < iova ? iova : start, start + BigInt(PAGE) < end ? start + BigInt(PAGE) : end];
        for (let bit = (from - iova) / size; from < to && bit <= (to - 1n - iova) / size; bit++)
          wanted.add(Number(bit));
      }
      const told = bits(reportOf(log, iova, asked.length, size));
      assert.deepEqual(
        told,
        [...wanted].sort((a, b) => a - b),
      );
    }),
  );
});

test('a log that is full says that everything it watches may be dirty', () => {
  const log = new DmaLog(BigInt(PAGE), []);
  for (let i = 0; i < MAX_LOG_BLOCKS; i++) log.written(i * 2 ** 27, 1);
  assert.deepEqual(bits(reportOf(log, 0n, 64n * 4096n, 4096n)), [0]);
  log.written(MAX_LOG_BLOCKS * 2 ** 27, 1);
  for (const _ of [1, 2]) assert.equal(bits(reportOf(log, 0n, 64n * 4096n, 4096n)).length, 64);
  const ranged = new DmaLog(BigInt(PAGE), [{ iova: 8192n, length: 2n ** 45n }]);
  for (let i = 0; i <= MAX_LOG_BLOCKS; i++) ranged.written(8192 + i * 2 ** 27, 1);
  assert.deepEqual(bits(reportOf(ranged, 0n, 4n * 4096n, 4096n)), [2, 3]);
});

test('a log of ranges knows the pages that they touch, and none before or behind them', () => {
  const range = { iova: BigInt(BASE + 10 * PAGE), length: BigInt(2 * PAGE) };
  const log = new DmaLog(BigInt(PAGE), [range]);
  for (const page of [0, 9, 10, 11, 12, 30]) log.written(BASE + page * PAGE, 1);
  assert.deepEqual(bits(reportOf(log, BigInt(BASE), BigInt(64 * PAGE), BigInt(PAGE))), [10, 11]);
});

test('a report of millions of dirty pages gives way after each block of them, and so does one of a single page in each', () => {
  const log = new DmaLog(BigInt(PAGE), []);
  const blockBytes = 32_768 * PAGE;
  for (let i = 0; i < 40; i++) log.written(i * blockBytes, i < 4 ? blockBytes : 1);
  const report = log.report(0n, BigInt(40 * blockBytes), BigInt(blockBytes))[Symbol.iterator]();
  let steps = 0;
  let next = report.next();
  for (; next.done !== true; next = report.next()) steps += 1;
  assert.equal(steps, 40);
  assert.deepEqual(
    bits(next.value),
    Array.from({ length: 40 }, (_, i) => i),
  );
});
