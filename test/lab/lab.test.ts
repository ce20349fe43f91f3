import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { missingStages } from '../../lab/host/prepare.ts';
import { barter } from '../cli/barter.ts';

/** CI prepares the lab if needed. Elsewhere the user must do that, since it takes minutes and root. */
const isCi = process.env.CI === 'true';
const missing = missingStages();
const skip =
  missing.length > 0 && !isCi ? `the lab is not prepared (${missing.join(', ')}): barter lab prepare` : false;

interface LabDocument {
  ok: boolean;
  qemu: string;
  kernel: string;
  steps: { name: string; ok: boolean; expected?: unknown; seen?: unknown }[];
  reports: { documented: string | null }[];
}

interface DiffDocument {
  steps: number;
  agree: number;
  differences: { finding: string | null }[];
  reports: { documented: string | null }[];
}

const findings = readdirSync(new URL('../../lab/findings/', import.meta.url))
  .map((file) => `lab/findings/${file}`)
  .sort();

before(() => {
  if (skip !== false) return;
  const { status, stderr } = barter('lab', 'prepare');
  assert.equal(status, 0, stderr);
});

after(() => assert.deepEqual(skip === false ? missingStages() : [], []));

function labRun(name: string): LabDocument {
  const { status, stdout, stderr } = barter('lab', 'run', name, '--json');
  assert.notEqual(stdout, '', stderr);
  const document: LabDocument = JSON.parse(stdout);
  const failed = document.steps.filter((step) => !step.ok);
  assert.deepEqual(failed, [], stderr);
  assert.equal(status, 0);
  assert.match(document.qemu, /^(10\.[1-9]|1[1-9]\.|[2-9]\d\.)/);
  assert.match(document.kernel, /^(6\.(19|[2-9]\d)|[7-9]\.|\d\d\.)/);
  return document;
}

test('a Linux guest exports the BAR of a served device, is refused what must be, loses the BAR and regains it', {
  skip,
}, () => {
  const { steps } = labRun('guest-export');
  const refused = steps.filter((step) => step.name.startsWith('refused: '));
  assert.ok(refused.length >= 10);
  assert.ok(steps.some((step) => /sees the guest's bytes/.test(step.name)));
});

test("every capability is shown or hidden, read and written as by the guest's vfio-pci", { skip }, () => {
  const { steps } = labRun('capabilities');
  assert.ok(steps.filter(({ name }) => / accesses/.test(name)).length > 80);
});

test("the guest's devices are captured, served, and captured again in a guest: nothing differs", { skip }, () => {
  const { steps } = labRun('guest-capture');
  assert.ok(steps.filter((step) => step.name.startsWith('serve ')).length >= 11);
  assert.ok(steps.filter((step) => /served and captured again: no difference/.test(step.name)).length >= 11);
});

test("the guest's ioatdma copies into a lent BAR until it is taken back, by each trigger", { skip }, () => {
  const { steps } = labRun('peer-to-peer');
  assert.equal(steps.filter((step) => /writes that reached the BAR after it returned/.test(step.name)).length, 7);
});

test("the kernel's virtio_gpu shows a lent BAR on a screen, until each trigger takes it back", { skip }, () => {
  const { steps, reports } = labRun('virtio-gpu');
  assert.equal(steps.filter(({ name }) => /: restored: pixels that differ$/.test(name)).length, 7);
  const hung = 'docs/kernel-findings.md, 10';
  assert.deepEqual(
    reports.map(({ documented }) => documented),
    [hung, hung],
  );
});

test("the guest's own driver of the DMA engine binds, tests it, and copies with it", { skip }, () => {
  const { steps } = labRun('ioat-selftest');
  assert.ok(steps.some((step) => /^an interrupt for each copy/.test(step.name)));
});

test('facts, findings and random programs give on the guest what they give on the engine', { skip }, () => {
  const { status, stdout, stderr } = barter('lab', 'diff', '--steps', '400', '--seed', '1', '--json');
  assert.notEqual(stdout, '', stderr);
  const { steps, agree, differences, reports }: DiffDocument = JSON.parse(stdout);
  assert.deepEqual(
    differences.filter(({ finding }) => finding === null),
    [],
  );
  assert.equal(status, 0, stderr);
  assert.ok(steps >= 900, `${steps} steps`);
  assert.equal(agree, steps - differences.length);
  const shown = new Set([...differences.map(({ finding }) => finding), ...reports.map(({ documented }) => documented)]);
  // Only map-leak and kmemleak show leaks.
  const leaks = findings.filter((file) => /leaks/.test(file));
  assert.deepEqual([...shown, ...leaks].sort(), findings);
});

test('each mapping that ends leaves its scatterlist in the kernel', { skip }, () => {
  const { steps } = labRun('map-leak');
  assert.equal(steps.at(-1)!.seen, 'about as many as mappings');
});

test('the device that the guide writes is driven by a guest', { skip }, () => {
  const { steps } = labRun('own-device');
  assert.ok(steps.some((step) => /CRC-32 of guest memory/.test(step.name)));
});
