import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { findProgram } from '../../src/verify/catalogue.ts';
import { explore, replay, replayFileOf } from '../../src/verify/explore.ts';
import { applyMutant, findMutant, MUTANTS } from '../../src/verify/mutants/index.ts';
import { runMutants } from '../../src/verify/mutants/run.ts';

test('every mutant is caught by its invariant, within ten seconds, with its schedule', async () => {
  const told: string[] = [];
  const results = await runMutants(({ name }) => told.push(name));
  assert.deepEqual(
    told,
    MUTANTS.map(({ name }) => name),
  );
  for (const { name, caught, found, seconds, schedule } of results) {
    assert.ok(caught, `${name} was missed; found: ${found}`);
    assert.ok(seconds < 10, `${name} took ${seconds} s`);
    assert.ok(schedule.length > 0, `${name} has no schedule`);
  }
});

test('a mutant is gone when its search is over', async () => {
  for (const { name, scenario } of MUTANTS) {
    await explore({ scenario, mutant: name, max: 1 });
    const { bug } = await explore({ scenario, max: 500 });
    assert.equal(bug, null, `${name} stays: ${bug?.message}`);
  }
});

test('every mutant is found again by its replay file, with the same hash', async () => {
  for (const { name, scenario } of MUTANTS) {
    const result = await explore({ scenario, mutant: name });
    const file = replayFileOf(result)!;
    const { run, matches } = replay(JSON.parse(JSON.stringify(file)));
    assert.ok(matches, name);
    assert.equal(run.finding?.invariant, result.bug?.invariant, name);
    assert.equal(replay({ ...file, mutant: null }).run.finding, null, `${name}: the schedule breaks the correct code`);
  }
});

test('the document names every mutant, and no other', () => {
  const text = readFileSync(new URL('../../docs/mutants.md', import.meta.url), 'utf8');
  const named = [...text.matchAll(/^\| `([\w-]+)` \|/gm)].map((match) => match[1]);
  assert.deepEqual(named.sort(), MUTANTS.map(({ name }) => name).sort());
});

test('an unknown mutant is refused with the list of those there are', () => {
  assert.throws(() => findMutant('L99'), /there is no mutant L99; there are .*L12-lock-destroyed-early/);
  const undo = applyMutant(findMutant('L8-unclaimed-bar-exported'));
  undo();
  assert.equal(findProgram('export-of-unclaimed').name, 'export-of-unclaimed');
});

test('docs/mutants.md names, for each bug of the mechanism, the mutants that there are, or a test that puts it back', () => {
  const numbers = [
    ...Array.from({ length: 8 }, (_, i) => `R${i + 1}`),
    ...Array.from({ length: 14 }, (_, i) => `L${i + 1}`),
  ];
  const page = readFileSync(new URL('../../docs/mutants.md', import.meta.url), 'utf8');
  const rows = new Map([...page.matchAll(/^\| ([RL]\d+) \|.*\| (.*) \|$/gm)].map(([, number, by]) => [number, by]));
  assert.deepEqual([...rows.keys()], numbers);
  for (const [number, by] of rows) {
    const named = [...by.matchAll(/`([^`]+)`/g)].map(([, name]) => name);
    for (const name of named) assert.ok(findMutant(name), number);
    const own = MUTANTS.map(({ name }) => name).filter((name) => name.startsWith(`${number}-`));
    for (const name of own) assert.ok(named.includes(name), `${number} does not name ${name}`);
    const tests = [...by.matchAll(/test\/\S+\.test\.ts/g)].map(([path]) => path);
    assert.ok(named.length + tests.length > 0, number);
    const defects = readFileSync(new URL('../vfio/defects.test.ts', import.meta.url), 'utf8');
    assert.equal(tests.includes('test/vfio/defects.test.ts'), defects.includes(`number: '${number}'`), number);
  }
});
