/**
 * A clone's command runs code built from the clone's sources: in a clone that was never built, and after every edit.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { endOf } from './barter.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const clone = mkdtempSync(join(tmpdir(), 'barter-build-'));
after(() => rmSync(clone, { recursive: true }));
const PARTS = ['bin', 'scripts', 'src', 'lab', 'bench', 'examples', 'package.json', 'package-lock.json'];
for (const part of [...PARTS, 'tsconfig.json', 'tsconfig.build.json'])
  cpSync(join(root, part), join(clone, part), { recursive: true });
mkdirSync(join(clone, 'node_modules'));
for (const name of readdirSync(join(root, 'node_modules')).filter((entry) => !entry.startsWith('.barter')))
  symlinkSync(join(root, 'node_modules', name), join(clone, 'node_modules', name));

const BIN = join(clone, 'bin/barter.cjs');
const CACHE = join(clone, 'cache');
const env = { ...process.env, XDG_CACHE_HOME: CACHE };

function help(command = 'serve'): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, [BIN, command, '--help'], { encoding: 'utf8', env });
  assert.equal(status, 0, stderr);
  return stdout;
}

const builtAt = () => statSync(join(clone, 'dist/src/cli/serve.js')).mtimeMs;

test('the first command builds, the next one uses what is there', () => {
  assert.match(help(), /serve/);
  const first = builtAt();
  help();
  assert.equal(builtAt(), first);
});

test('an edit anywhere in the sources is seen, by two commands at once', async () => {
  const path = join(clone, 'src/cli/serve.ts');
  const source = readFileSync(path, 'utf8');
  const edited = source.replace('Examples:', 'Examples (edited):');
  assert.notEqual(edited, source);
  writeFileSync(path, edited);
  const both = [0, 1].map(() =>
    spawn(process.execPath, [BIN, 'serve', '--help'], { stdio: ['ignore', 'pipe', 2], env }),
  );
  // Reads at once: Node drops output that nothing reads before the child ends.
  const texts = await Promise.all(both.map((one) => one.stdout!.setEncoding('utf8').toArray()));
  for (const text of texts) assert.match(text.join(''), /\(edited\)/);
  const before = builtAt();
  writeFileSync(join(clone, 'src/report/new.ts'), 'export const NEW = 1;\n');
  // A server has no part of this file, and starts sooner without a look at it.
  help();
  assert.equal(builtAt(), before);
  help('run');
  assert.ok(builtAt() > before);
  assert.deepEqual(
    readdirSync(clone).filter((name) => name.startsWith('dist.')),
    [],
  );
});

test('sources that do not parse are named, and what was built before stays', () => {
  const path = join(clone, 'src/report/new.ts');
  writeFileSync(path, 'export const = 1;\n');
  const { status, stderr } = spawnSync(process.execPath, [BIN, '--version'], { encoding: 'utf8', env });
  assert.equal(status, 1);
  assert.match(stderr, /^barter: the sources do not compile:\nsrc\/report\/new\.ts\(1,14\)/);
  rmSync(path);
  help('run');
});

/** Serves until the server listens, then ends it normally. */
async function serve(): Promise<void> {
  const words = [BIN, 'serve', join(clone, 'examples/two-peers.yaml'), '--socket-dir', join(clone, 'sockets')];
  const server = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'], env });
  const [line] = await once(server.stdout, 'data');
  assert.match(String(line), /^ready: lender at /);
  assert.equal(await endOf(server, 'SIGTERM'), 0);
}

test('a server leaves its compiled code for the next one, which does not trust what is none', async () => {
  rmSync(CACHE, { recursive: true, force: true });
  help();
  const folder = join(CACHE, 'barter', 'code');
  const caches = readdirSync(folder).map((name) => join(folder, name));
  assert.equal(caches.length, 2);
  const sizes = () => caches.map((path) => statSync(path).size);
  const ofHelp = sizes();
  await serve();
  const ofServer = sizes();
  assert.ok(
    ofServer[0] > ofHelp[0] && ofServer[1] > ofHelp[1],
    `${ofServer} bytes after a server, ${ofHelp} after help`,
  );
  for (const path of caches) writeFileSync(path, readFileSync(path).subarray(0, 1000));
  await serve();
  for (const [i, size] of sizes().entries()) assert.ok(size > ofServer[i] / 2);
  await serve();
});

test('nothing is written into the folder of the package at run time', async () => {
  const list = () =>
    readdirSync(clone, { recursive: true })
      .map(String)
      .filter((path) => !path.startsWith('cache'));
  const before = list();
  await serve();
  assert.deepEqual(
    list().filter((path) => !path.startsWith('sockets')),
    before.filter((path) => !path.startsWith('sockets')),
  );
});

test('a clone without its dependencies installs them first, and a failure to do so is the status', () => {
  const fresh = join(clone, 'fresh');
  mkdirSync(join(fresh, 'scripts'), { recursive: true });
  cpSync(join(root, 'bin'), join(fresh, 'bin'), { recursive: true });
  writeFileSync(join(fresh, 'scripts/build.cjs'), '');
  writeFileSync(join(fresh, 'scripts/bootstrap.mjs'), "console.error('no registry'); process.exit(3);");
  const { status, stderr } = spawnSync(process.execPath, [join(fresh, 'bin/barter.cjs'), '--version'], {
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [3, 'no registry\n']);
});
