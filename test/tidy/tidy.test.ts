import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const sources = files.filter((file) => /^(src|lab|bench)\/.*\.ts$/.test(file));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

/** Lowest first; a folder imports from itself and from those before it. */
const ORDER = [
  'abi',
  'task',
  'pci',
  'iommu',
  'dma-buf',
  'vfio',
  'device',
  'linux',
  'vfio-user',
  'machine',
  'drivers',
  'scenario',
  'explore',
  'verify',
  'demo',
  'report',
  'cli',
];

function* imports(file: string): Generator<string> {
  for (const match of read(file).matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
    yield relative(root, resolve(root, dirname(file), match[1]));
  }
}

test('the folders of src import downward only', () => {
  const wrong: string[] = [];
  for (const file of sources.filter((name) => name.startsWith('src/'))) {
    const from = file.split('/').length > 2 ? ORDER.indexOf(file.split('/')[1]) : ORDER.length;
    assert.notEqual(from, -1, `${file}: a folder that docs/architecture.md does not know`);
    for (const target of imports(file)) {
      if (!target.startsWith('src/')) {
        // Only the command line may reach out of src/, to lab/ and bench/.
        if (from < ORDER.indexOf('cli')) wrong.push(`${file} -> ${target}`);
        continue;
      }
      if (ORDER.indexOf(target.split('/')[1]) > from) wrong.push(`${file} -> ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('what is imported exists', () => {
  const missing = sources.flatMap((file) =>
    [...imports(file)].filter((target) => !existsSync(join(root, target))).map((target) => `${file} -> ${target}`),
  );
  assert.deepEqual(missing, []);
});

test('functions have at most 70 lines', () => {
  const long: string[] = [];
  for (const file of sources) {
    const lines = read(file).split('\n');
    for (const [start, line] of lines.entries()) {
      const indent =
        /^( *)(?:export |private |protected |static |override |async )*(?:function|\*?[a-zA-Z]+\().*\{$/.exec(line);
      if (indent === null || /^ *(if|for|while|switch|return|describe|test)\b/.test(line)) continue;
      const end = lines.findIndex((other, i) => i > start && other.startsWith(`${indent[1]}}`));
      if (end - start > 70) long.push(`${file}:${start + 1} has ${end - start} lines`);
    }
  }
  assert.deepEqual(long, []);
});

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

test('every export is used somewhere', () => {
  const used = new Map<string, number>();
  const all = files.filter((file) => /\.(ts|mjs|md)$/.test(file));
  for (const file of all) {
    for (const word of new Set(read(file).match(/[A-Za-z_$][\w$]*/g) ?? [])) used.set(word, (used.get(word) ?? 0) + 1);
  }
  const dead: string[] = [];
  for (const file of sources.filter((name) => name.startsWith('src/') && !name.startsWith('src/abi/'))) {
    const text = read(file);
    for (const match of text.matchAll(/^export (?:abstract )?(?:function\*?|class|const|interface|type) (\w+)/gm)) {
      const inFile = text.split(new RegExp(`\\b${match[1]}\\b`)).length - 1;
      if ((used.get(match[1]) ?? 0) <= 1 && inFile <= 1) dead.push(`${file}: ${match[1]}`);
    }
  }
  assert.deepEqual(dead, []);
});

test('nothing names the machine that it was written on', () => {
  const found = files
    .filter((file) => /\.(ts|mjs|c|md|sh|yaml|json)$/.test(file) && file !== 'package-lock.json')
    .filter((file) => /\/work\/(main|shared)|\/root\/|deb\.debian\.org|registry\.npmjs/.test(read(file)))
    .filter((file) => file !== 'test/tidy/tidy.test.ts');
  assert.deepEqual(found, []);
});
