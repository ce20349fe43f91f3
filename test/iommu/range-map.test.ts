import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RangeMap } from '../../src/iommu/range-map.ts';

interface Range {
  start: number;
  end: number;
}

/** The simplest possible model: a list that is searched from its start. */
class Model {
  ranges: Range[] = [];

  overlapping({ start, end }: Range): Range[] {
    return this.ranges.filter((each) => each.start < end && each.end > start).sort((a, b) => a.start - b.start);
  }
}

const range = (span: number) =>
  fc
    .record({ start: fc.nat(span), length: fc.integer({ min: 1, max: 12 }) })
    .map(({ start, length }) => ({ start, end: start + length }));

test('a range map answers as a plain list of ranges does, whatever was put in and taken out', () => {
  const step = fc.record({ kind: fc.constantFrom('insert', 'insert', 'insert', 'remove', 'ask'), range: range(6000) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 1500, size: 'max' }), (steps) => {
      const map = new RangeMap<Range>();
      const model = new Model();
      for (const { kind, range: asked } of steps) {
        const inTheWay = model.overlapping(asked);
        if (kind === 'insert') {
          assert.equal(map.insert(asked.start, asked.end, asked), inTheWay.length === 0);
          if (inTheWay.length === 0) model.ranges.push(asked);
        } else if (kind === 'remove') {
          const wide = { start: asked.start, end: asked.end + 40 };
          assert.deepEqual(map.remove(wide.start, wide.end), model.overlapping(wide));
          model.ranges = model.ranges.filter((each) => each.start >= wide.end || each.end <= wide.start);
        } else {
          assert.equal(map.firstOverlap(asked.start, asked.end), inTheWay[0] ?? null);
          assert.deepEqual([...map.overlapping(asked.start, asked.end)], inTheWay);
          assert.equal(
            map.find(asked.start),
            model.overlapping({ start: asked.start, end: asked.start + 1 })[0] ?? null,
          );
        }
        assert.equal(map.size, model.ranges.length);
      }
      assert.deepEqual(
        [...map.values()],
        model.ranges.sort((a, b) => a.start - b.start),
      );
    }),
    { numRuns: 40 },
  );
});

test('many ranges, in every order: each is found, and all are taken out again', () => {
  const count = 20_000;
  for (const order of [(i: number) => i, (i: number) => count - 1 - i, (i: number) => (i * 7919) % count]) {
    const map = new RangeMap<number>();
    for (let i = 0; i < count; i++) assert.ok(map.insert(order(i) * 4, order(i) * 4 + 3, order(i)));
    for (let i = 0; i < count; i++) {
      assert.equal(map.find(i * 4 + 2), i);
      assert.equal(map.find(i * 4 + 3), null, 'a gap');
    }
    for (let i = 0; i < count; i++) assert.deepEqual(map.remove(order(i) * 4 + 1, order(i) * 4 + 2), [order(i)]);
    assert.equal(map.size, 0);
    assert.deepEqual([...map.values()], []);
  }
});
