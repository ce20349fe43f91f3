import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Plateau, ROOM, warmUpRounds } from './plateau.ts';
import { QUANTITIES, type Usage, usageOf } from './usage.ts';

const FLAT: Usage = { fds: 40, sessions: 14, threads: 11, files: 60, mappings: 500, rssMiB: 120 };

test('a server that returns to its plateau passes, whatever it did in the warm-up', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(50), { minLength: 5, maxLength: 40 }), (extra) => {
      const warmUp = warmUpRounds(extra.length);
      const most = Math.max(...extra.slice(0, warmUp));
      const plateau = new Plateau(warmUp);
      for (const more of extra) {
        const fds = FLAT.fds + Math.min(more, most);
        assert.deepEqual(plateau.add({ ...FLAT, fds }), []);
      }
    }),
  );
});

test('each quantity that grows a little every round is found, and no other is blamed', () => {
  for (const each of QUANTITIES) {
    const plateau = new Plateau(warmUpRounds(60));
    const step = Math.max(1, Math.ceil(FLAT[each] / 100));
    const rounds = Array.from({ length: 60 }, (_, i) => plateau.add({ ...FLAT, [each]: FLAT[each] + i * step }));
    assert.deepEqual(rounds[0], []);
    const found = rounds.flat();
    assert.ok(found.length > 0 && found.every((told) => told.startsWith(`${each} grew to `)), `${each}: ${found}`);
  }
});

test('one round above is enough for a count; memory must be above in two rounds in a row', () => {
  for (const each of QUANTITIES) {
    const plateau = new Plateau(2);
    const high = { ...FLAT, [each]: FLAT[each] * 3 };
    const told = [FLAT, FLAT, high, FLAT, high, high].map((usage) => plateau.add(usage).length);
    assert.deepEqual(told, ROOM[each].rounds === 1 ? [0, 0, 1, 0, 1, 1] : [0, 0, 0, 0, 0, 1], each);
  }
});

test('a process is seen with its own descriptors, sockets and threads', () => {
  const usage = usageOf(process.pid);
  for (const each of QUANTITIES) assert.ok(usage[each] >= 0, each);
  assert.ok(usage.fds >= 3 && usage.threads >= 1 && usage.mappings > usage.files && usage.files > 0);
});
