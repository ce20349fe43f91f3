import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { barter } from './barter.ts';

function run(steps: string[], ...options: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'barter-run-test-'));
  try {
    const path = join(folder, 'scenario.yaml');
    const lines = steps.map((step) => `    - { ${step} }\n`).join('');
    const head = 'scenario: expects\ndescription: x\nmachine: two-peers\ntasks:\n  user:\n';
    writeFileSync(path, `${head}    - { op: open, device: lender }\n${lines}`);
    const { status, stdout } = barter('run', path, '--json', ...options);
    return { status, steps: JSON.parse(stdout).steps as { expected?: unknown }[] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const odd = 'op: export, device: lender, region: 0, ranges: [[0, 4096]], openFlags: 3, expect: EINVAL, linux: null';

test('a scenario whose steps give what they say ends with 0, on either profile', () => {
  for (const profile of ['default', 'linux-7.3']) assert.equal(run([odd], '--profile', profile).status, 0, profile);
});

test('a step that gives something else ends it with 1, and is shown beside what was expected', () => {
  const { status, steps } = run(['op: info, device: lender, expect: EBADF', odd]);
  assert.equal(status, 1);
  assert.deepEqual(
    steps.map((step) => step.expected ?? null),
    [null, 'EBADF', null],
  );
});

test('a started step says that it waits, and what it gave in the end', () => {
  const { status } = run([
    'op: export, device: lender, region: 0, ranges: [[0, 4096]], as: buffer',
    'op: attach, fd: buffer, device: borrower, as: peer',
    'op: add-fence, importer: peer, usage: read, as: fence',
    'op: start, as: revoke, step: { op: memory, device: lender, on: false }, expect: blocked',
    'op: join, of: revoke, expect: blocked',
    'op: signal-fence, fence: fence, expect: null',
    'op: join, of: revoke, expect: null',
    'op: join, of: nobody, expect: EBADF',
  ]);
  assert.equal(status, 0);
});
