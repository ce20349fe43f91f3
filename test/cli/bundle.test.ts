/** `barter serve` starts from a bundle: in a clone that never made one, and after every edit. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const clone = mkdtempSync(join(tmpdir(), 'barter-bundle-'));
after(() => rmSync(clone, { recursive: true }));
for (const part of ['bin', 'scripts', 'src', 'package.json'])
  cpSync(join(root, part), join(clone, part), { recursive: true });
symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'));

function help(): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(clone, 'bin/barter.mjs'), 'serve', '--help'], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

const bundles = () => readdirSync(join(clone, 'dist'));

test('the first server makes the bundle, the next one uses it', () => {
  assert.match(help(), /serve/);
  const [name, ...others] = bundles();
  assert.deepEqual(others, []);
  help();
  assert.deepEqual(bundles(), [name]);
});

test('an edit anywhere in the sources is seen', () => {
  const path = join(clone, 'src/cli/serve.ts');
  const source = readFileSync(path, 'utf8');
  const [first] = bundles();
  const edited = source.replace(/\.description\(\s*'/, (text) => `${text}(edited) `);
  assert.notEqual(edited, source);
  writeFileSync(path, edited);
  assert.match(help(), /\(edited\)/);
  writeFileSync(join(clone, 'src/report/new.ts'), 'export const NEW = 1;\n');
  help();
  assert.ok(bundles().length >= 3 && bundles().includes(first), 'each version has its own');
});
