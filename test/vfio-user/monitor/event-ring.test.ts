import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { EventRing } from '../../../src/vfio-user/monitor/event-ring.ts';

test('events come in order and whole, or are counted as dropped, wherever the ring wraps', () => {
  const action = fc.oneof({ weight: 4, arbitrary: fc.string({ maxLength: 60, unit: 'binary' }) }, fc.constant(null));
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const writer = new EventRing<string>(null, 256);
      const reader = new EventRing<string>(writer.memory);
      const kept: string[] = [];
      const got: string[] = [];
      let lost = 0;
      let dropped = 0;
      const take = () => {
        const taken = reader.take();
        got.push(...taken.events);
        dropped += taken.dropped;
      };
      for (const each of actions) {
        if (each === null) take();
        else if (writer.push(each)) kept.push(each);
        else lost += 1;
      }
      take();
      assert.deepEqual(got, kept);
      assert.equal(dropped, lost);
    }),
  );
});

test('the positions wrap at 2^32', () => {
  const ring = new EventRing<number>(null, 256);
  const words = new Int32Array(ring.memory, 0, 2);
  words.fill(-3);
  for (let i = 0; i < 100; i++) {
    assert.ok(ring.push(i));
    assert.deepEqual(ring.take(), { events: [i], dropped: 0 });
  }
});
