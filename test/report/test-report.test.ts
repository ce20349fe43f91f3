import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { validateXML } from 'xmllint-wasm';
import { parseTap } from '../../lab/runs/tap.ts';
import { type CaseReport, junit, ktap, parseReportTarget } from '../../src/report/test-report.ts';

const cases = fc.array(
  fc.record({
    name: fc.string({ minLength: 1 }),
    verdict: fc.constantFrom('pass', 'fail', 'skip'),
    text: fc.string(),
  }),
  { minLength: 1, maxLength: 5 },
) as fc.Arbitrary<CaseReport[]>;

/** The rules of Documentation/dev-tools/ktap.rst for a result line, a plan and a version line. */
const KTAP_LINE = /^(KTAP version 1|1\.\.\d+|(not )?ok \d+( [^#]*)?(# SKIP( .*)?)?|#.*)$/;

test('every line of KTAP is one of its kinds, and verdicts survive', () => {
  fc.assert(
    fc.property(cases, (each) => {
      const lines = ktap([{ name: 'a suite', cases: each }])
        .trimEnd()
        .split('\n');
      for (const line of lines) assert.match(line.replace(/^ {2}/, ''), KTAP_LINE);
      const inner = lines.filter((line) => line.startsWith('  ')).map((line) => line.slice(2));
      const seen = parseTap(inner, 0).map(({ verdict }) => verdict);
      assert.deepEqual(
        seen,
        each.map(({ verdict }) => verdict),
      );
      const isGood = each.every(({ verdict }) => verdict !== 'fail');
      assert.equal(lines.at(-1), `${isGood ? 'ok' : 'not ok'} 1 a suite`);
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
  const schema = readFileSync(new URL('./junit.xsd', import.meta.url), 'utf8');
  const xml = reports.map((contents, i) => ({ fileName: `${i}.xml`, contents }));
  const { valid, errors } = await validateXML({ xml, schema });
  assert.deepEqual(errors.map(({ rawMessage }) => rawMessage).slice(0, 5), []);
  assert.equal(valid, true);
  const wrong = reports[0].replace('failures=', 'failed=');
  assert.equal((await validateXML({ xml: wrong, schema })).valid, false);
});

test('a report goes to standard output or to a file', () => {
  assert.deepEqual(parseReportTarget('ktap'), { format: 'ktap', file: null });
  assert.deepEqual(parseReportTarget('junit=a/b.xml'), { format: 'junit', file: 'a/b.xml' });
  assert.equal(parseReportTarget('xml'), null);
});
