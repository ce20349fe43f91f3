import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { applyEdit, parseEdit } from '../../lab/kernel/edit.ts';

const SOURCE = `int first(int a)
{
	return a;
}

static int second(int a,
		  int b)
{
	if (a)
		return a;
	return b;
}
`;

const edit = { file: 'a.c', function: 'second', find: '\\treturn b;', put: '\treturn 2;' } as const;

test('lines go in place of, before or behind what is found in the function', () => {
  assert.match(applyEdit(SOURCE, { ...edit, at: 'instead' }), /return a;\n\treturn 2;\n}/);
  assert.match(applyEdit(SOURCE, { ...edit, at: 'before' }), /\treturn 2;\n\treturn b;\n}/);
  assert.match(applyEdit(SOURCE, { ...edit, at: 'after' }), /\treturn b;\n\treturn 2;\n}/);
});

test('a pattern that is not there once is refused, with how often it is', () => {
  assert.throws(
    () => applyEdit(SOURCE, { ...edit, at: 'after', find: '\\t+return a;', function: 'none' }),
    /no function/,
  );
  assert.throws(() => applyEdit(SOURCE, { ...edit, at: 'after', find: 'nothing' }), /is 0 times in second of a\.c/);
  const { function: _, ...anywhere } = edit;
  assert.throws(() => applyEdit(SOURCE, { ...anywhere, at: 'after', find: '\\t+return a;' }), /is 2 times in a\.c/);
});

test('the fixes of the findings are edits', () => {
  const folder = new URL('../../lab/fixes/', import.meta.url).pathname;
  for (const file of readdirSync(folder)) assert.ok(parseEdit(readFileSync(folder + file, 'utf8'), file).edits.length);
});
