/** The kernel's own reader of KTAP, `kunit.py parse` of its source, reads our reports. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { labPath } from '../../lab/host/cache.ts';
import { ktap } from '../../src/report/test-report.ts';

const SOURCE = labPath('root', 'usr/src/barter-linux');
const PARSER = 'tools/testing/kunit/kunit.py';
const skip = existsSync(`${SOURCE}/${PARSER}`) ? false : 'NOT RUN: barter lab prepare --kernel iommufd (source)';

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
  const { stdout, stderr } = spawnSync('python3', [PARSER, 'parse'], { cwd: SOURCE, input: report, encoding: 'utf8' });
  assert.match(stdout, /Ran 4 tests: passed: 2, failed: 1, skipped: 1\n/, stderr);
  assert.doesNotMatch(stdout, /\[ERROR\]/);
  assert.match(stdout, /first suite \(3 subtests\)/);
  assert.match(stdout, /\[SKIPPED\] left out \(no device\)/);
});
