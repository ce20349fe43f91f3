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

test('on served devices a scenario gives what it gives on the engine, a session standing for the importer', () => {
  const on = (backend: string) => {
    const { status, stdout, stderr } = barter('run', 'memory-bit', '--on', backend, '--json');
    assert.equal(status, 0, stderr);
    const { steps } = JSON.parse(stdout) as { steps: { op: string; result: { ok?: unknown; errno?: string } }[] };
    return steps.map(({ op, result }) => [op, 'ok' in result ? result.ok : result.errno]);
  };
  assert.deepEqual(on('vfio-user'), on('engine'));
});

test('what is asked of a lent buffer by its descriptor is answered by its exporter', () => {
  const { status, steps } = run(
    [
      'op: export, device: lender, region: 0, ranges: [[0, 4096]], as: buffer',
      'op: set-name, fd: buffer, name: frame',
      'op: fdinfo, fd: buffer, expect: { size: "4096", exp_name: vfio_pci_core, name: frame }',
      'op: poll, fd: buffer, expect: { readable: true, writable: true }',
      'op: lseek, fd: buffer, offset: 1, whence: 0, expect: EINVAL',
      'op: memory, device: lender, on: false',
      'op: attach, fd: buffer, device: borrower, as: early, expect: ENODEV',
      'op: memory, device: lender, on: true',
      'op: attach, fd: buffer, device: borrower, as: peer, expect: null',
      'op: map, importer: peer, as: mapping, expect: [4096]',
      'op: unmap, map: mapping, expect: null',
      'op: unmap, map: mapping, expect: EBADF',
      'op: detach, importer: peer',
    ],
    '--on',
    'vfio-user',
  );
  assert.deepEqual([status, steps.filter((step) => 'expected' in step)], [0, []]);
});

test('what cannot run on served devices is refused before the first step, by its place and name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-run-test-'));
  const last = {
    'op: pin, importer: peer': /step 4 of user.*pin importer=peer: importers/,
    'op: start, as: t, step: { op: info, device: lender }': /step 4 of user.*start t: info/,
    'op: set-irqs, device: lender, flags: 36, index: 2, start: 0, count: 2, events: [a, null]': /step 4.*set-irqs/,
    'op: open, device: lender': /step 4.*a device has one client/,
  };
  for (const [step, message] of Object.entries(last)) {
    const path = join(folder, 'scenario.yaml');
    const steps = [
      'op: open, device: lender',
      'op: export, device: lender, region: 0, ranges: [[0, 4096]], as: buffer',
      'op: attach, fd: buffer, device: borrower, as: peer',
      step,
    ].map((line) => `    - { ${line} }\n`);
    writeFileSync(path, `scenario: no\ndescription: x\nmachine: two-peers\ntasks:\n  user:\n${steps.join('')}`);
    const { status, stdout, stderr } = barter('run', path, '--on', 'vfio-user');
    assert.deepEqual([status, stdout], [2, '']);
    assert.match(stderr, message);
  }
  rmSync(folder, { recursive: true });
});
