/**
 * The reports of all commands that have `--report`: JUnit is valid, KTAP follows its rules, and a command that fails
 * has a failure in its report.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import type { FoundDifference } from '../../lab/diff/diff.ts';
import type { KernelReport } from '../../lab/kernel/reports.ts';
import { undocumented } from '../../lab/kernel/reports.ts';
import { reportSuites } from '../../src/cli/report-option.ts';
import { diffSuites, execSuite, mutantSuite, peerSuites, runSuite, selftestSuites } from '../../src/cli/suites.ts';
import { parseReportTarget, type SuiteReport } from '../../src/report/test-report.ts';
import { checkKtap, junitErrors } from '../report/formats.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-suites-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What a command has to report, and whether it ends with 0. */
interface Reported {
  suites: SuiteReport[];
  reports: KernelReport[];
  ok: boolean;
}

const text = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('not ok 1 x', '1..3', '# SKIP', ']]>'),
);
const file = fc.constantFrom(null, 'lab/findings/02-d1-and-d2.yaml');
const report = fc.record({ kind: fc.constantFrom('KASAN', 'oops'), title: text, text, documented: file });
const reports = fc.array(report, { maxLength: 3 }) as fc.Arbitrary<KernelReport[]>;

const run = fc
  .tuple(fc.array(fc.record({ name: text, ok: fc.boolean(), ms: fc.nat(), expected: text, seen: text })), reports)
  .map(([steps, kernel]): Reported => {
    const ok = steps.every((step) => step.ok) && undocumented(kernel).length === 0;
    return { suites: [runSuite('guest-export', { steps })], reports: kernel, ok };
  });

const lender = fc.constantFrom('barter', 'igb');
const difference = { index: fc.nat(), op: text, engine: fc.jsonValue(), kernel: fc.jsonValue() };
const violation = fc.record({ lender, invariant: text, message: text, triggers: fc.array(text), finding: file });
const diff = fc
  .record({
    differences: fc.array(
      fc.record({ lender, ...difference, finding: file, program: fc.constant<FoundDifference['program']>([]) }),
    ),
    violations: fc.array(violation),
    reports,
  })
  .map(({ differences, violations, reports: kernel }): Reported => {
    const isKnown = [...differences, ...violations].every(({ finding }) => finding !== null);
    const suites = diffSuites({ lenders: ['barter', 'igb'], differences, violations });
    return { suites, reports: kernel, ok: isKnown && undocumented(kernel).length === 0 };
  });

const tap = fc.record({ name: text, verdict: fc.constantFrom('pass', 'fail', 'skip'), reason: text, text });
const selftests = fc.array(fc.record({ name: text, tests: fc.array(tap) })).map((suites): Reported => {
  const ok = suites.every(({ tests }) => tests.every(({ verdict }) => verdict !== 'fail'));
  return { suites: selftestSuites(suites as Parameters<typeof selftestSuites>[0]), reports: [], ok };
});

const peerTest = fc.record({
  name: text,
  verdict: fc.constantFrom('pass' as const, 'differs' as const, 'fail' as const, 'not-portable' as const),
  failed: fc.option(text),
  reason: fc.option(text),
});
const peers = fc.array(fc.record({ name: text, tests: fc.array(peerTest) })).map((files): Reported => {
  const ok = files.every(({ tests }) => tests.every(({ verdict }) => verdict !== 'fail'));
  return { suites: peerSuites(files), reports: [], ok };
});

const line = fc.oneof(
  fc.constantFrom('TAP version 13', 'ok 1 a', 'ok 2 b # SKIP c', 'not ok 3 d', '1..3', '1..0'),
  text,
);
const exec = fc
  .record({
    words: fc.array(text),
    status: fc.constantFrom(0, 1, 4, 139, null),
    fault: fc.constantFrom(null, { kind: 'died' as const, message: 'the guest died' }),
    stdout: fc.array(line).map((lines) => lines.join('\n')),
  })
  .map(({ words, status, fault, stdout }): Reported => {
    const outcome = { status, fault, bootMs: 1500 };
    return {
      suites: [execSuite(words, outcome, { stdout, stderr: '' })],
      reports: [],
      ok: status === 0 && fault === null,
    };
  });

const mutant = {
  name: text,
  invariant: text,
  caught: fc.boolean(),
  seconds: fc.double({ min: 0, max: 9 }),
  scenario: text,
};
const mutants = fc
  .array(fc.record({ ...mutant, schedule: fc.constant<string[]>([]), preemptions: fc.nat(), found: fc.option(text) }))
  .map((all): Reported => ({ suites: [mutantSuite(all)], reports: [], ok: all.every(({ caught }) => caught) }));

/** The document that a command writes for `--report FORMAT=FILE`. */
async function written(format: 'ktap' | 'junit', { suites, reports: kernel }: Reported): Promise<string> {
  const path = join(folder, 'report');
  await reportSuites({ report: parseReportTarget(`${format}=${path}`)! }, 'a command', suites, kernel);
  return readFileSync(path, 'utf8');
}

test('a guest that dies is in the report of a program that had failed a test before', () => {
  const outcome = { status: null, fault: { kind: 'died' as const, message: 'the guest died' }, bootMs: 1 };
  const { cases } = execSuite(['t'], outcome, { stdout: 'TAP version 13\nnot ok 1 a\n1..1', stderr: '' });
  assert.deepEqual(
    cases.map(({ name, verdict }) => [name, verdict]),
    [
      ['a', 'fail'],
      ['exits with 0', 'fail'],
    ],
  );
  assert.equal(cases[1].text, 'the guest died');
});

for (const [name, results] of Object.entries({ run, diff, selftests, peers, exec, mutants })) {
  test(`reports of ${name} are valid, whatever the result is`, async () => {
    const samples = fc.sample(results, { seed: 16, numRuns: 150 });
    const documents: string[] = [];
    for (const sample of samples) {
      const { fail } = checkKtap(await written('ktap', sample));
      if (!sample.ok) assert.ok(fail > 0, JSON.stringify(sample));
      const document = await written('junit', sample);
      assert.equal(Number(/failures="(\d+)"/.exec(document)?.[1]), fail);
      documents.push(document);
    }
    assert.ok(samples.some(({ ok }) => ok) && samples.some(({ ok }) => !ok));
    assert.deepEqual(await junitErrors(documents), []);
  });
}
