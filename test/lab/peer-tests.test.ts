/**
 * libvfio-user's own tests against Barter's server. A small suite tries each verdict where there is a python3. The real
 * one runs where `barter lab peers` has its source: each verdict is the expected one. BARTER_UPDATE_GOLDEN=1 writes the
 * expected ones anew.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DIFFERENCES, NOT_PORTABLE, PLAN, type Plan } from '../../lab/peers/suite/plan.ts';
import { hasSuite, runSuite } from '../../lab/peers/suite/run.ts';
import type { SuiteTest } from '../../lab/peers/suite/session.ts';

const SMALL = fileURLToPath(new URL('small-suite', import.meta.url));
const GOLDEN = fileURLToPath(new URL('golden/peer-tests.txt', import.meta.url));
const noPython = spawnSync('python3', ['--version']).status === 0 ? false : 'NOT RUN: there is no python3';
const noSuite = hasSuite() ? false : "NOT RUN: barter lab peers (libvfio-user's tests)";

const SMALL_PLAN: Plan = {
  constants: { ANSWER: 42 },
  early: {},
  notPortable: (name) => (name === 'test_small.test_not_run' ? 'it says nothing' : null),
  difference: (name) => (['test_small.test_agreed', 'test_small.test_unexpected'].includes(name) ? 'agreed' : null),
};
/** The folders that the suite makes. */
const folder = mkdtempSync(join(tmpdir(), 'barter-peer-tests-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const python = ['env', `TMPDIR=${folder}`, 'python3'] as const;
const small = (file: string) => runSuite({ folder: SMALL, python, plan: SMALL_PLAN, only: [file] });

test('a test has the verdict that it deserves', { skip: noPython }, async () => {
  const run = await small('test_small');
  const { tests } = run.files[0]!;
  assert.deepEqual(
    tests.map(({ name, verdict }) => `${verdict} ${name.replace('test_small.test_', '')}`),
    [
      ...['pass region', 'pass version', 'pass constant', 'pass left'],
      ...['fail silent', 'fail wrong', 'differs agreed', 'fail unexpected', 'not-portable not_run'],
    ],
  );
  const of = (name: string) => tests.find((each) => each.name === `test_small.test_${name}`)!;
  assert.match(of('silent').failed!, /^TimeoutError: timed out \(test_small\.py:\d+ `sock\.recv\(1\)`\)$/);
  const wrong = /^AssertionError \(test_small\.py:\d+ `assert error == errno\.ENOENT`; error is 22\)$/;
  assert.match(of('wrong').failed!, wrong);
  assert.match(of('unexpected').failed!, /^it passes, although plan\.ts says: agreed$/);
  const { ok, passed, differs, failed, notPortable } = run;
  assert.deepEqual([ok, passed, differs, failed, notPortable], [false, 4, 1, 3, 1]);
});

test('a process that ends in a test fails that test', { skip: noPython }, async () => {
  const run = await small('test_dies');
  assert.deepEqual(
    run.files[0]!.tests.map(({ name, verdict, failed }) => [name, verdict, failed]),
    [
      ['test_dies.test_first', 'pass', null],
      ['test_dies.test_dies', 'fail', "the tests' process ended: no more"],
    ],
  );
});

test('a file that is not in the suite is refused', async () => {
  await assert.rejects(() => small('test_nope'), /the suite has no file test_nope; it has test_dies, test_small$/);
});

/** Without the lines of the suite. */
const line = ({ name, verdict, failed }: SuiteTest) =>
  [verdict, name, ...(failed === null ? [] : [failed.replaceAll(/ `[^`]*`/g, '')])].join(' ');
const golden = () => readFileSync(GOLDEN, 'utf8').trimEnd().split('\n');

test('each reason of the plan belongs to a test of the expected verdicts', () => {
  const named = golden().map((each) => each.split(' ') as [string, string]);
  const of = (verdict: string) => named.filter(([first]) => first === verdict).map(([, name]) => name);
  const covers = (name: string) => (test: string) => test === name || test === `${name.split('.')[0]}.*`;
  for (const [verdict, entries] of [
    ['not-portable', NOT_PORTABLE],
    ['differs', DIFFERENCES],
  ] as const) {
    const tests = entries.flatMap((entry) => entry.tests);
    assert.equal(new Set(tests).size, tests.length, 'a test has one reason');
    for (const name of of(verdict)) assert.ok(tests.some(covers(name)), `${name} ${verdict}, and has no reason`);
    for (const each of tests)
      assert.ok(
        of(verdict).some((name) => covers(name)(each)),
        `${each} is in the plan alone`,
      );
  }
  assert.ok(of('pass').length >= 100, `${of('pass').length} tests pass`);
});

test("each verdict of libvfio-user's own tests is the expected one", { skip: noSuite }, async () => {
  const { files } = await runSuite({ plan: PLAN });
  const lines = files.flatMap(({ tests }) => tests.map(line));
  if (process.env.BARTER_UPDATE_GOLDEN === '1') return writeFileSync(GOLDEN, `${lines.join('\n')}\n`);
  assert.deepEqual(lines, golden());
});
