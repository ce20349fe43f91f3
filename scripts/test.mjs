// Runs `npm test`: the checks of `npm run check`, then the tests. Nothing is skipped silently.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { check } from './check.mjs';
import { ensure } from './ensure-packages.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const only = process.argv.slice(2);

function run(title, command, args) {
  console.log(`== ${title}`);
  const started = Date.now();
  const child = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (child.status !== 0) {
    console.error(`${title} failed (${child.signal ?? `status ${child.status}`}).`);
    process.exit(1);
  }
  console.log(`== ${title}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function testFiles(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

if (only.length === 0 && !(await check())) process.exit(1);
// This check needs the type of every expression, which takes too long for `npm run check`.
if (only.length === 0) run('tasks', process.execPath, [join(root, 'bin', 'barter.cjs'), 'check-tasks']);
if (only.length === 0) {
  // Tests run the built command. Some check the package, which has declarations too.
  run('build', process.execPath, [join(root, 'scripts', 'build.cjs'), '--release']);
}
const files = only.length > 0 ? only : testFiles('test');
// Tests compare the ABI with a C compiler, open pages in a browser, read captures with tshark, and share searches
// through Redis. If a tool cannot be installed, the tests that need it say so, and fail in CI.
if (only.length === 0) ensure('cc', ['gcc', 'libc6-dev']);
if (files.some((path) => path.includes('test/browser/'))) ensure('chromium', ['chromium']);
if (files.some((path) => readFileSync(path, 'utf8').includes('/tshark.ts'))) ensure('tshark', ['tshark']);
if (files.some((path) => path.includes('test/queue/'))) ensure('redis-server', ['redis-server']);
// Examples import the package by its name, which resolves to the sources in tests.
const options = ['--conditions=barter-source', '--import', 'tsx', '--test', '--test-concurrency=2'];
const reporters = ['spec', './scripts/slow-files.mjs'].flatMap((reporter) => [
  `--test-reporter=${reporter}`,
  '--test-reporter-destination=stdout',
]);
run('tests', process.execPath, [...options, ...reporters, ...files]);
