import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Board } from '../../src/web/board.ts';

interface Shown {
  set: Record<string, unknown>;
  add: Record<string, unknown[]>;
}

function dataOf(frame: string | null): Shown {
  assert.ok(frame !== null);
  const match = /^event: (?:update|whole)\ndata: (.*)\n\n$/.exec(frame);
  assert.ok(match !== null, 'one event of one line');
  return JSON.parse(match[1]);
}

test('changes come once; a newcomer gets everything', () => {
  const board = new Board();
  assert.equal(board.takeChanges(), null);
  board.set('kind', 'serve');
  board.add('life', [1, 2], 10);
  assert.deepEqual(dataOf(board.takeChanges()), { set: { kind: 'serve' }, add: { life: [1, 2] } });
  assert.equal(board.takeChanges(), null);
  board.add('life', ['a\nb'], 10);
  assert.deepEqual(dataOf(board.takeChanges()), { set: {}, add: { life: ['a\nb'] } });
  assert.deepEqual(dataOf(board.whole()), { set: { kind: 'serve' }, add: { life: [1, 2, 'a\nb'] } });
});

test('a viewer from the start and one that comes later hold the same, whenever they look', () => {
  const step = fc.oneof(
    fc.record({ set: fc.constantFrom('a', 'b'), value: fc.integer() }),
    fc.record({ add: fc.constantFrom('x', 'y'), items: fc.array(fc.integer(), { maxLength: 8 }) }),
    fc.constant('look' as const),
  );
  const keep = 5;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const board = new Board();
      const seen: Shown = { set: {}, add: {} };
      const look = () => {
        const frame = board.takeChanges();
        if (frame === null) return;
        const { set, add } = dataOf(frame);
        Object.assign(seen.set, set);
        for (const [topic, items] of Object.entries(add)) {
          seen.add[topic] = [...(seen.add[topic] ?? []), ...items].slice(-keep);
        }
      };
      for (const each of steps) {
        if (each === 'look') look();
        else if ('set' in each) board.set(each.set, each.value);
        else board.add(each.add, each.items, keep);
      }
      look();
      assert.deepEqual(seen, dataOf(board.whole()));
    }),
  );
});
