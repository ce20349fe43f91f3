/** Completion: what each word may become, and scripts that a shell can read. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { SUMMARIES } from '../../src/cli/summaries.ts';
import { barter } from './barter.ts';

/** The values for the last word, and whether the shell may add files. */
function complete(...words: string[]): { values: string[]; files: boolean } {
  const { status, stdout, stderr } = barter('complete', '--', ...words);
  assert.equal(status, 0, stderr);
  const lines = stdout.trimEnd().split('\n');
  const directive = lines.pop();
  assert.ok(directive === ':0' || directive === ':4', stdout);
  return { values: lines.map((line) => line.split('\t')[0]), files: directive === ':0' };
}

test('the first word may become every command', () => {
  assert.deepEqual(complete('').values.sort(), Object.keys(SUMMARIES).sort());
});

test('names, options and their values are completed; files where there are no names', () => {
  assert.ok(complete('explore', 'revoke-vs-m').values.includes('revoke-vs-map'));
  assert.deepEqual(complete('explore', 'revoke-vs-map', '--alg').values, ['--algorithm']);
  assert.deepEqual(complete('explore', 'revoke-vs-map', '--algorithm', 's').values, ['source', 'stateful']);
  assert.ok(complete('lab', 'run', 'guest-').values.includes('guest-export'));
  assert.ok(complete('bench', 'eng').values.includes('engine'));
  assert.deepEqual(complete('devices', 'io'), { values: ['ioat'], files: false });
  assert.deepEqual(complete('run', 'examples/'), { values: [], files: true });
  assert.equal(complete('serve', 'examples/two').files, true);
});

test('the script for bash is one that bash reads', () => {
  const { status, stdout } = barter('complete', 'bash');
  assert.equal(status, 0);
  const bash = spawnSync('bash', ['-n'], { input: stdout, encoding: 'utf8' });
  assert.equal(bash.status, 0, bash.stderr);
  for (const shell of ['zsh', 'fish', 'powershell']) assert.match(barter('complete', shell).stdout, /barter complete/);
});
