/** Files that commands write. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeWhole } from '../../src/cli/files.ts';

const folder = mkdtempSync(join(tmpdir(), 'barter-files-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('a pipe gets the bytes, and is not replaced by a file', async () => {
  const path = join(folder, 'pipe');
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  reader.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const ended = new Promise((resolve) => reader.once('close', resolve));
  writeWhole(path, 'to a pipe', '--html');
  await ended;
  assert.equal(text, 'to a pipe');
  assert.ok(statSync(path).isFIFO());
});

test('a file is replaced as a whole, and a folder is an error that names the option', () => {
  const path = join(folder, 'file');
  writeFileSync(path, 'before');
  writeWhole(path, 'after', '--html');
  assert.equal(readFileSync(path, 'utf8'), 'after');
  assert.throws(() => writeWhole(folder, 'x', '--html'), /cannot be written: .*choose another with --html FILE/);
  assert.deepEqual(readdirSync(folder).sort(), ['file', 'pipe']);
});
