import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseTap } from '../../lab/runs/tap.ts';
import { type CaseReport, junit, ktap, parseReportTarget } from '../../src/report/test-report.ts';
import { checkKtap, junitErrors } from './formats.ts';

const cases = fc.array(
  fc.record({
    name: fc.string({ minLength: 1 }),
    verdict: fc.constantFrom('pass', 'fail', 'skip'),
    text: fc.string(),
  }),
  { minLength: 1, maxLength: 5 },
) as fc.Arbitrary<CaseReport[]>;

test('every KTAP report keeps the rules, and verdicts survive', () => {
  fc.assert(
    fc.property(cases, (each) => {
      const report = ktap([{ name: 'a suite', cases: each }]);
      checkKtap(report);
      const inner = report.split('\n').filter((line) => line.startsWith('  '));
      const seen = parseTap(
        inner.map((line) => line.slice(2)),
        0,
      );
      assert.deepEqual(
        seen.map(({ verdict }) => verdict),
        each.map(({ verdict }) => verdict),
      );
    }),
    { seed: 1 },
  );
});

test('JUnit counts tests, failures and skips, and is XML whatever a kernel prints', async () => {
  const report = await junit('a run', [
    {
      name: 'a suite',
      cases: [
        { name: 'good', verdict: 'pass', seconds: 1.5 },
        { name: 'bad', verdict: 'fail', text: 'a\x1b[31m & <b> "c" \x00' },
        { name: 'left out', verdict: 'skip', text: 'no device' },
      ],
    },
  ]);
  assert.match(report, /<testsuite [^>]*name="a suite"[^>]*>/);
  assert.match(report, /tests="3"/);
  assert.match(report, /failures="1"/);
  assert.match(report, /skipped="1"/);
  assert.match(report, /<failure message="a\?\[31m &amp; &lt;b&gt; &quot;c&quot; \?">/);
  assert.match(report, /<skipped message="no device">/);
});

test('every JUnit report is valid against the schema, whatever its names and texts', async () => {
  const reports = await Promise.all(
    fc.sample(fc.array(fc.record({ name: fc.string(), cases })), { seed: 2, numRuns: 200 }).map((s) => junit('r', s)),
  );
  assert.deepEqual(await junitErrors(reports), []);
  assert.notDeepEqual(await junitErrors([reports[0].replace('failures=', 'failed=')]), []);
});

test('the check of KTAP counts verdicts, and refuses what breaks a rule', () => {
  const good = ktap([
    { name: 'first', cases: [{ name: 'a', verdict: 'fail', text: 'two\nlines' }] },
    { name: 'second', cases: [{ name: 'b', verdict: 'skip', text: 'why' }] },
  ]);
  assert.deepEqual(checkKtap(good), { pass: 0, fail: 1, skip: 1 });
  for (const [from, to] of [
    ['1..2', '1..3'],
    ['not ok 1 first', 'ok 1 first'],
    ['ok 1 b', 'ok 2 b'],
    ['  # two', 'two'],
    ['KTAP version 1', 'TAP version 13'],
    ['# Subtest: second', '# Subtest: third'],
  ]) {
    assert.throws(() => checkKtap(good.replace(from, to)), { code: 'ERR_ASSERTION' }, to);
  }
});

test('a report goes to standard output or to a file', () => {
  assert.deepEqual(parseReportTarget('ktap'), { format: 'ktap', file: null });
  assert.deepEqual(parseReportTarget('junit=a/b.xml'), { format: 'junit', file: 'a/b.xml' });
  assert.equal(parseReportTarget('xml'), null);
});
