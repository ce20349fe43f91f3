import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wrapped } from '../../src/report/wrap.ts';

test('words are kept whole, lines end at 80 columns, and a longer word has a line for itself', () => {
  const long = 'x'.repeat(90);
  const lines = wrapped(`${'word '.repeat(40)}${long} end`, 4).split('\n');
  assert.ok(lines.every((line) => line.length <= 80 || line.trim() === long));
  assert.ok(lines.every((line) => line.startsWith('    ')));
  assert.equal(lines.map((line) => line.trim()).join(' '), `${'word '.repeat(40)}${long} end`);
  assert.equal(wrapped(''), '');
});
