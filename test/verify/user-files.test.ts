/** Users' files load from any place: TypeScript or JavaScript, ESM or CommonJS, with or without a package. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { barter } from '../cli/barter.ts';

const body = (isTyped: boolean): string => `{
  name: 'racy',
  summary: '',
  build(stage${isTyped ? ': Stage' : ''}) {
    const x = new Cell('x', 0);
    stage.spawn('writer', (function* () { yield* x.store(1); })());
    stage.spawn('reader', (function* () {
      if ((yield* x.load()) === 1) throw new InvariantError('I1', 'seen');
    })());
  },
};
`;
const ESM = `import { Cell, InvariantError } from 'barter';\nexport const racy = ${body(false)}`;
const TYPED = `import { Cell, InvariantError, type Stage } from 'barter';\nexport const racy = ${body(true)}`;
const COMMON = `const { Cell, InvariantError } = require('barter');\nmodule.exports.racy = ${body(false)}`;

const FILES: Readonly<Record<string, string>> = {
  'alone.ts': TYPED,
  'alone.mts': TYPED,
  'alone.mjs': ESM,
  'undeclared.js': ESM,
  'common.js': COMMON,
  'common.cjs': COMMON,
  'esm/typed.ts': TYPED,
  'esm/plain.js': ESM,
  'cjs/typed.ts': TYPED,
  'cjs/plain.js': COMMON,
};

test('every kind of file, by one thread and by two', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-files-'));
  try {
    for (const [type, name] of [
      ['module', 'esm'],
      ['commonjs', 'cjs'],
    ]) {
      mkdirSync(join(folder, name));
      writeFileSync(join(folder, name, 'package.json'), JSON.stringify({ type }));
    }
    for (const [name, text] of Object.entries(FILES)) {
      const file = join(folder, name);
      writeFileSync(file, text);
      const workers = name.startsWith('c') ? '2' : '1';
      const replayFile = join(dirname(file), 'found.json');
      const { stdout, stderr } = barter(
        'explore',
        `${file}:racy`,
        '--json',
        '--workers',
        workers,
        '--replay-file',
        replayFile,
      );
      assert.match(stdout, /"message":"I1: seen"/, `${name}: ${stdout}${stderr}`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
