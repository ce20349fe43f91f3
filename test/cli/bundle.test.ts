/** `barter serve` starts from a bundle: in a clone that never made one, and after every edit. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { endOf } from './barter.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const clone = mkdtempSync(join(tmpdir(), 'barter-bundle-'));
after(() => rmSync(clone, { recursive: true }));
for (const part of ['bin', 'scripts', 'src', 'examples', 'package.json'])
  cpSync(join(root, part), join(clone, part), { recursive: true });
symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'));

const BIN = join(clone, 'bin/barter.cjs');

function help(): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, [BIN, 'serve', '--help'], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout;
}

const bundles = () => readdirSync(join(clone, 'dist'));
const mtime = (bundle: string) => statSync(join(clone, 'dist', bundle)).mtimeMs;

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

/** Serves until it listens, then ends in good order. */
async function serve(): Promise<void> {
  const words = [BIN, 'serve', join(clone, 'examples/two-peers.yaml'), '--socket-dir', join(clone, 'sockets')];
  const server = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(server.stdout, 'data');
  assert.match(String(line), /^ready: lender at /);
  assert.equal(await endOf(server, 'SIGTERM'), 0);
}

test('a server leaves its compiled code for the next one, which does not trust what is none', async () => {
  help();
  const newest = bundles().reduce((a, b) => (mtime(a) > mtime(b) ? a : b));
  const caches = ['main', 'serve-worker'].map((name) => join(clone, 'dist', newest, `${name}.cjs.cache`));
  const ofHelp = caches.map((path) => statSync(path).size);
  await serve();
  const sizes = caches.map((path) => statSync(path).size);
  assert.ok(sizes[0] > ofHelp[0] && sizes[1] > ofHelp[1], `${sizes} bytes after a server, ${ofHelp} after help`);
  for (const path of caches) writeFileSync(path, readFileSync(path).subarray(0, 1000));
  await serve();
  for (const [i, path] of caches.entries()) assert.ok(statSync(path).size > sizes[i] / 2);
  await serve();
});
