/**
 * The kernels built from source. The tests run if this machine has built them already, or with BARTER_LAB=full, which
 * builds them (4 to 7 minutes each on two cores). Otherwise they are skipped with a message.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { before, type TestContext, test } from 'node:test';
import { labDiff } from '../../lab/diff/diff.ts';
import { lendersOf } from '../../lab/diff/lenders.ts';
import { missingStages } from '../../lab/host/prepare.ts';
import { type BuiltKernel, builtImagePath } from '../../lab/kernel/kernel.ts';
import { findKernel } from '../../lab/kernel/kernels.ts';
import { barter } from '../cli/barter.ts';

const isFull = process.env.BARTER_LAB === 'full';

/** A kernel built from an older importer or option list is brought up to date, which takes seconds. */
function skipReason(kernel: BuiltKernel): string | false {
  const missing = missingStages(findKernel(kernel)).filter(
    (stage) => stage !== 'importer' && stage !== `kernel-${kernel}`,
  );
  const isCached = missing.length === 0 && existsSync(builtImagePath(kernel));
  if (isFull || isCached) return false;
  return `NOT RUN: this machine has not built the kernel ${kernel}: BARTER_LAB=full, or barter lab prepare --kernel ${kernel}`;
}

const skips: Record<BuiltKernel, string | false> = { iommufd: skipReason('iommufd'), debug: skipReason('debug') };

before(() => {
  for (const [kernel, skip] of Object.entries(skips)) {
    if (skip !== false) continue;
    const { status, stderr } = barter('lab', 'prepare', '--kernel', kernel);
    assert.equal(status, 0, stderr);
  }
});

interface LabDocument {
  kernel: string;
  reports: { kind: string; text: string; documented: string | null }[];
  steps: number | { name: string; ok: boolean }[];
  agree?: number;
  differences?: { finding: string | null }[];
}

/** Runs a command of the lab on a kernel. Nothing may fail, and the kernel may have no new complaints. */
function lab(t: TestContext, kernel: BuiltKernel, ...command: string[]): LabDocument {
  const { status, stdout, stderr } = barter('lab', ...command, '--kernel', kernel, '--json');
  assert.notEqual(stdout, '', stderr);
  const document: LabDocument = JSON.parse(stdout);
  assert.match(document.kernel, new RegExp(`-barter-${kernel}$`));
  assert.deepEqual(
    document.reports.filter((report) => report.documented === null),
    [],
  );
  assert.equal(status, 0, stdout);
  t.diagnostic(`run on ${document.kernel}: barter lab ${command.join(' ')}`);
  return document;
}

function assertAgrees({ steps, agree, differences }: LabDocument, most: number): void {
  assert.deepEqual(differences, []);
  assert.equal(agree, steps);
  assert.ok(Number(steps) >= most);
}

test('iommufd: a guest exports, is refused, loses and regains, as with any kernel', { skip: skips.iommufd }, (t) => {
  const { steps } = lab(t, 'iommufd', 'run', 'guest-export');
  assert.ok((steps as unknown[]).length > 30);
});

test('iommufd: address spaces do on the engine what they do in the kernel', { skip: skips.iommufd }, (t) => {
  assertAgrees(lab(t, 'iommufd', 'diff', '--lender', 'iommufd', '--steps', '250', '--seed', '1'), 250);
});

test('iommufd: a physical function has virtual ones there too', { skip: skips.iommufd }, (t) => {
  lab(t, 'iommufd', 'diff', '--lender', 'igb', '--steps', '100', '--seed', '1');
});

test('debug: no report of KASAN, lockdep or the detector of hung tasks', { skip: skips.debug }, (t) => {
  lab(t, 'debug', 'run', 'guest-export');
});

test('debug: what the canary does is reported, each by its detector, and fails the run', { skip: skips.debug }, () => {
  const { status, stdout, stderr } = barter('lab', 'run', 'canary', '--kernel', 'debug', '--leak-check', '--json');
  assert.equal(status, 1, stderr);
  const document: LabDocument = JSON.parse(stdout);
  assert.deepEqual(
    (document.steps as { name: string; ok: boolean }[]).filter((step) => !step.ok),
    [],
  );
  const reports = (kind: string) => document.reports.filter((report) => report.kind === kind).map(({ text }) => text);
  assert.match(reports('lockdep')[0], /possible circular locking dependency[\s\S]*canary_(first|second)/);
  assert.match(reports('hung task')[0], /blocked for more than[\s\S]*canary_/);
  assert.match(reports('KASAN')[0], /slab-use-after-free in canary_use_after_free/);
  assert.ok(reports('kmemleak').some((text) => /canary_leak/.test(text)));
});

test('debug: what a kernel reports while it is compared fails the comparison', { skip: skips.debug }, async () => {
  // This lender has no scenarios of its own, so only a few random programs run.
  const ivshmem = lendersOf({ hasIommufd: true }).find(({ name }) => name === 'ivshmem')!;
  const lender = { ...ivshmem, setup: 'echo use-after-free > /sys/kernel/debug/barter-canary' };
  const choice = {
    kernel: findKernel('debug'),
    accel: 'tcg',
    leakCheck: false,
    lenders: [lender],
    matrix: null,
    kept: true,
  } as const;
  const result = await labDiff({ ...choice, seed: 1, steps: 20, onProgress: () => {} });
  assert.deepEqual(result.differences, []);
  assert.deepEqual(
    result.reports.map(({ kind }) => kind),
    ['KASAN'],
  );
  assert.equal(result.ok, false);
});
