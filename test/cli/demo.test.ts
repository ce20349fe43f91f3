import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BIN, barter } from './barter.ts';

interface DemoDocument {
  ok: boolean;
  steps: { name: string; ok: boolean; ms: number; detail: string }[];
}

test('the demo lends a BAR, moves bytes and sees every revoke, twice in a row', () => {
  for (let run = 0; run < 2; run++) {
    const { status, stdout, stderr } = barter('demo', '--json');
    assert.equal(stderr.replaceAll(/^npm warn.*\n/gm, ''), '');
    const { ok, steps }: DemoDocument = JSON.parse(stdout);
    assert.deepEqual(
      steps.filter((step) => !step.ok),
      [],
    );
    assert.equal(ok, true);
    assert.equal(status, 0);
    const triggers = steps.map((step) => step.name).filter((name) => name.startsWith('revoke: '));
    assert.deepEqual(triggers, [
      'revoke: memory bit',
      'revoke: D3hot',
      'revoke: FLR',
      'revoke: DEVICE_RESET',
      'revoke: hot reset',
      'revoke: low power',
      'revoke: close',
    ]);
    assert.equal(steps.at(-1)?.name, 'leave nothing behind');
  }
});

test('the demo succeeds with its output in a file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-demo-'));
  const file = openSync(join(folder, 'output'), 'w');
  const { status } = spawnSync(process.execPath, [BIN, 'demo', '--json'], { stdio: ['ignore', file, 'inherit'] });
  closeSync(file);
  const text = readFileSync(join(folder, 'output'), 'utf8');
  rmSync(folder, { recursive: true });
  assert.equal(status, 0, text);
});
