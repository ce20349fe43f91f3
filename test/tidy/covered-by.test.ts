import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COVERED_BY } from './covered-by.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'src', 'test'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(`${root}${file}`));
const tests = files.filter((file) => file.endsWith('.test.ts')).map((file) => file.slice('test/'.length));
const ownNames = new Set(tests.map((file) => basename(file, '.test.ts')));
const sources = files.filter((file) => /^src\/.*\.ts$/.test(file)).map((file) => file.slice('src/'.length));

/** The entry for a file: its own, or that of the innermost folder with one. */
function entryFor(source: string): string | null {
  const entries = Object.keys(COVERED_BY).filter(
    (key) => key === source || (key.endsWith('/') && source.startsWith(key)),
  );
  return entries.sort((a, b) => b.length - a.length)[0] ?? null;
}

const uncovered = sources.filter((source) => !ownNames.has(basename(source, '.ts')) && entryFor(source) === null);

test('every source file has a test of its name, or covered-by.ts says which test covers it', () => {
  assert.deepEqual(uncovered, []);
});

test('the tests of covered-by.ts exist, and each of its entries is of a file', () => {
  const named = Object.values(COVERED_BY).flat();
  assert.deepEqual(
    named.filter((file) => !tests.includes(file)),
    [],
  );
  assert.deepEqual(
    Object.keys(COVERED_BY).filter((entry) => !sources.some((source) => source.startsWith(entry))),
    [],
  );
});
