import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { namedPrograms, namedReproducer } from '../../src/reproduce/named.ts';
import { reproducer } from '../../src/reproduce/program.ts';
import { loadScenario } from '../../src/scenario/load.ts';

const FINDINGS = new URL('../../lab/findings/', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'barter-reproducer-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What the compiler says to a program. */
function complaints(text: string): string {
  const source = join(folder, 'repro.c');
  writeFileSync(source, text);
  return spawnSync('cc', ['-fsyntax-only', '-Wall', '-Wextra', '-Werror', source], { encoding: 'utf8' }).stderr;
}

test('the program of each finding compiles without a warning', () => {
  for (const file of readdirSync(FINDINGS).sort()) {
    const { text } = reproducer(loadScenario(join(FINDINGS, file)).scenario, file);
    assert.equal(complaints(text), '', file);
  }
  for (const name of namedPrograms()) assert.equal(complaints(namedReproducer(name)!.text), '', name);
});

test('the importer is the kernel’s own where that can show it', () => {
  const importers = readdirSync(FINDINGS)
    .sort()
    .map((file) => reproducer(loadScenario(join(FINDINGS, file)).scenario, file).importer);
  const own = ['iommufd', 'iommufd', 'iommufd', 'iommufd'];
  const later = ['iommufd', 'module', 'iommufd', 'none', 'none', 'iommufd'];
  assert.deepEqual(importers, ['module', ...own, 'module', 'module', 'module', 'module', ...later]);
});

test('a step without a counterpart is named', () => {
  const step = { op: 'hot-reset-info', device: 'lender' } as const;
  const scenario = { scenario: 'a', description: 'b', machine: 'c', tasks: { user: [step] } };
  assert.throws(() => reproducer(scenario, 'a.yaml'), /the step hot-reset-info cannot be written in C yet/);
});
