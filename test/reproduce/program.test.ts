import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { reproducer } from '../../src/reproduce/program.ts';
import { loadScenario } from '../../src/scenario/load.ts';

const FINDINGS = new URL('../../lab/findings/', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'barter-reproducer-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('the program of each finding compiles without a warning', () => {
  for (const file of readdirSync(FINDINGS).sort()) {
    const { text } = reproducer(loadScenario(join(FINDINGS, file)).scenario, file);
    const source = join(folder, 'repro.c');
    writeFileSync(source, text);
    const options = ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', source];
    const { status, stderr } = spawnSync('cc', options, { encoding: 'utf8' });
    assert.equal(status, 0, `${file}\n${stderr}`);
  }
});

test('the importer is the kernel’s own where that can show it', () => {
  const importers = readdirSync(FINDINGS)
    .sort()
    .map((file) => reproducer(loadScenario(join(FINDINGS, file)).scenario, file).importer);
  const own = ['iommufd', 'iommufd', 'iommufd', 'iommufd'];
  const later = ['iommufd', 'module', 'iommufd', 'none', 'none'];
  assert.deepEqual(importers, ['module', ...own, 'module', 'module', 'module', 'module', ...later]);
});

test('a step without a counterpart is named', () => {
  const step = { op: 'hot-reset-info', device: 'lender' } as const;
  const scenario = { scenario: 'a', description: 'b', machine: 'c', tasks: { user: [step] } };
  assert.throws(() => reproducer(scenario, 'a.yaml'), /the step hot-reset-info cannot be written in C yet/);
});
