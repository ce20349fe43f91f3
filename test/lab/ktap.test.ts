/** The kernel's own reader of KTAP, `kunit.py parse` of its source, reads our reports. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { labPath } from '../../lab/host/cache.ts';
import type { TapResult } from '../../lab/runs/tap.ts';
import { diffSuites, execSuite, mutantSuite, runSuite, selftestSuites } from '../../src/cli/suites.ts';
import { ktap, type SuiteReport } from '../../src/report/test-report.ts';
import { checkKtap } from '../report/formats.ts';

const SOURCE = labPath('root', 'usr/src/barter-linux');
const PARSER = 'tools/testing/kunit/kunit.py';
const skip = existsSync(`${SOURCE}/${PARSER}`) ? false : 'NOT RUN: barter lab prepare --kernel iommufd (source)';

function parsed(report: string): string {
  const { stdout, stderr } = spawnSync('python3', [PARSER, 'parse'], { cwd: SOURCE, input: report, encoding: 'utf8' });
  assert.match(stdout, /Ran \d+ tests/, stderr);
  assert.doesNotMatch(stdout, /\[ERROR\]/);
  return stdout;
}

test("the kernel's parser of KTAP finds every suite, case and verdict", { skip }, () => {
  const report = ktap([
    {
      name: 'first # suite',
      cases: [
        { name: 'good', verdict: 'pass' },
        { name: 'bad', verdict: 'fail', text: 'wanted 1\nnot ok 7 a trap\n1..3' },
        { name: 'left out', verdict: 'skip', text: 'no device' },
      ],
    },
    { name: 'second', cases: [{ name: 'ok 1 - odd # SKIP', verdict: 'pass' }] },
  ]);
  const stdout = parsed(report);
  assert.match(stdout, /Ran 4 tests: passed: 2, failed: 1, skipped: 1\n/);
  assert.match(stdout, /first suite \(3 subtests\)/);
  assert.match(stdout, /\[SKIPPED\] left out \(no device\)/);
});

test('it counts the cases of the reports of each command as we do', { skip }, () => {
  const finding = 'lab/findings/02-d1-and-d2.yaml';
  const difference = { lender: 'barter', index: 1, op: 'map importer=peer', engine: 'ENODEV', program: [] };
  const tests: TapResult[] = [
    { name: 'global.a_test', verdict: 'pass', reason: '', text: '' },
    { name: 'global.b_test', verdict: 'skip', reason: 'no /dev/iommu', text: '' },
    { name: 'global.c_test', verdict: 'fail', reason: '', text: '# c.c:12:c_test:Expected 0 (0) == ret (-1)' },
  ];
  const output = { stdout: 'TAP version 13\n1..2\nok 1 a page\nok 2 64 KiB # SKIP no memory\n', stderr: '' };
  const mutant = { invariant: 'I2', schedule: [], preemptions: 1, scenario: 'revoke-vs-map', seconds: 0.5 };
  const reports: Record<string, [SuiteReport[], RegExp]> = {
    run: [
      [
        runSuite('guest-export', {
          steps: [{ name: 'refused: no memory', ok: false, ms: 3, expected: 0, seen: 'EIO' }],
        }),
      ],
      /Ran 1 tests: failed: 1/,
    ],
    diff: [
      diffSuites({
        lenders: ['barter', 'igb'],
        differences: [
          { ...difference, kernel: [4096], finding },
          { ...difference, kernel: 'EIO', finding: null },
        ],
        violations: [{ lender: 'igb', invariant: 'I1', message: 'lent in D1', triggers: ['power 1'], finding }],
      }),
      /passed: 2, failed: 1, skipped: 2/,
    ],
    selftests: [
      selftestSuites([{ name: 'vfio_pci_device_test on lender', tests }]),
      /passed: 1, failed: 1, skipped: 1/,
    ],
    exec: [
      [execSuite(['./test.sh'], { status: 1, fault: null, bootMs: 1500 }, output)],
      /passed: 1, failed: 1, skipped: 1/,
    ],
    mutants: [
      [
        mutantSuite([
          { ...mutant, name: 'R1', caught: true, found: 'I2' },
          { ...mutant, name: 'R2', caught: false, found: null },
        ]),
      ],
      /passed: 1, failed: 1/,
    ],
  };
  for (const [name, [suites, counts]] of Object.entries(reports)) {
    const report = ktap(suites);
    checkKtap(report);
    assert.match(parsed(report), counts, name);
  }
});
