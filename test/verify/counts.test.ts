import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DporSearch } from '../../src/explore/search/dpor.ts';
import { CLASSICS, KNOWN_COUNTS } from '../../src/verify/classics/index.ts';
import { weakenDependence } from '../../src/verify/mutants/index.ts';

function run(name: string, size: number, optimal = true) {
  const search = new DporSearch(CLASSICS.find((family) => family.name === name)!.make(size), optimal);
  while (search.advance(1000) === 'more') {}
  return search;
}

for (const [name, counts] of Object.entries(KNOWN_COUNTS)) {
  test(`${name} is explored with the known number of executions and none in vain`, () => {
    for (const [size, wanted] of Object.entries(counts)) {
      const { totals, complete, bug } = run(name, Number(size));
      assert.deepEqual(
        { size, ...totals, steps: 0, complete, bug },
        { size, executions: wanted, blocked: 0, steps: 0, complete: true, bug: null },
      );
    }
  });
}

test('source sets give up as many runs on lastzero as is known', () => {
  const { totals } = run('lastzero', 5, false);
  assert.deepEqual([totals.executions, totals.blocked], [64, 33]);
});

test('a weakened dependence rule is told by the counts', () => {
  const undo = weakenDependence();
  try {
    assert.notEqual(run('n_writers_a_reader', 3).totals.executions, KNOWN_COUNTS.n_writers_a_reader[3]);
    assert.notEqual(run('lastwrite', 4).totals.executions, KNOWN_COUNTS.lastwrite[4]);
  } finally {
    undo();
  }
  assert.equal(run('lastwrite', 4).totals.executions, 24);
});
