import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Deadline, Deadlines } from '../../src/vfio-user/wire/deadlines.ts';

test('deadlines leave in the order of their times, whatever is taken out meanwhile', () => {
  const step = fc.oneof(fc.nat(50), fc.record({ cancel: fc.nat() }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const deadlines = new Deadlines();
      const listed: Deadline[] = [];
      for (const each of steps) {
        if (typeof each === 'number') listed.push(deadlines.add(each, () => {}));
        else if (listed.length > 0) {
          const [gone] = listed.splice(each.cancel % listed.length, 1);
          assert.equal(deadlines.remove(gone), true);
          assert.equal(deadlines.remove(gone), false);
        }
        assert.equal(deadlines.first?.atMs, listed.length === 0 ? undefined : Math.min(...listed.map((d) => d.atMs)));
      }
      const times: number[] = [];
      for (let next = deadlines.first; next !== undefined; next = deadlines.first) {
        times.push(next.atMs);
        deadlines.remove(next);
      }
      assert.deepEqual(
        times,
        listed.map((d) => d.atMs).sort((a, b) => a - b),
      );
    }),
    { seed: 1 },
  );
});
