import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

test('no line is longer than 120 columns, tables aside, and strings and patterns that cannot be cut', () => {
  const long: string[] = [];
  for (const file of files.filter((name) => /\.(ts|mjs|c|md|sh)$/.test(name) && name !== 'LICENSE')) {
    for (const [i, line] of read(file).split('\n').entries()) {
      const most = /['"`]|\/m,$/.test(line) && !file.endsWith('.md') ? 130 : 120;
      if (line.length > most && !line.startsWith('|') && !/https?:\/\//.test(line)) long.push(`${file}:${i + 1}`);
    }
  }
  assert.deepEqual(long, []);
});

test('nothing names the machine that it was written on', () => {
  const found = files
    .filter((file) => /\.(ts|mjs|c|md|sh|yaml|json)$/.test(file) && file !== 'package-lock.json')
    .filter((file) => /\/work\/(main|shared)|\/root\/|deb\.debian\.org|registry\.npmjs/.test(read(file)))
    .filter((file) => file !== 'test/tidy/tidy.test.ts');
  assert.deepEqual(found, []);
});

/** Types that are not exported and mean the same in each of their files. */
const SAME_MEANING = ['Inside', 'DeviceStep'];

test('one word, one meaning: no two types share a name, in any two files of the sources', () => {
  const declared = new Map<string, string[]>();
  for (const file of files.filter((name) => /^(src|lab|bench)\/.*\.ts$/.test(name))) {
    for (const match of read(file).matchAll(/^(?:export )?(?:abstract )?(?:class|interface|type) (\w{2,})/gm)) {
      declared.set(match[1], [...(declared.get(match[1]) ?? []), file]);
    }
  }
  const shared = [...declared].filter(([name, places]) => places.length > 1 && !SAME_MEANING.includes(name));
  assert.deepEqual(shared, []);
});

test('each entry of slow-files.json is of test files', () => {
  const entries = Object.keys(JSON.parse(read('test/slow-files.json')));
  const without = entries.filter((entry) => !files.some((file) => file.startsWith(entry)));
  assert.deepEqual(without, []);
});
