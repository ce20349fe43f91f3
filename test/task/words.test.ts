/** The content of cells as timelines show it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cell } from '../../src/task/cell.ts';
import { Completion } from '../../src/task/completion.ts';
import { inWords } from '../../src/task/words.ts';

class Point {
  x = 1;
  y = 2;
}

class Money {
  toString(): string {
    return '5 EUR';
  }
}

test('values are shown as what they are', () => {
  const rows: [unknown, string][] = [
    [1, '1'],
    [7n, '7'],
    ['running', 'running'],
    [null, 'null'],
    [undefined, 'undefined'],
    [{ state: 'D3', since: 4 }, '{state: "D3", since: 4}'],
    [[1, 'two', { three: 3 }], '[1, "two", {three: 3}]'],
    [new Set([1, 2]), '{1, 2}'],
    [new Map([['fd', { open: true }]]), '{fd: {open: true}}'],
    [new Point(), 'Point {x: 1, y: 2}'],
    [new Money(), '5 EUR'],
    [new Completion('reply'), 'reply'],
    [new Uint8Array(16), 'Uint8Array of 16 bytes'],
    [new Error('lost'), 'Error: lost'],
    [new Date(0), '1970-01-01T00:00:00.000Z'],
    [{ a: { b: { c: { d: 1 } } } }, '{a: {b: {c: ...}}}'],
    [Array.from({ length: 100 }, (_, i) => i), '[0, 1, 2, 3, 4, 5, ...]'],
    [() => 1, 'a function'],
  ];
  for (const [value, words] of rows) assert.equal(new Cell('cell', value).describe(), words);
});

test('what refers to itself and what is long come to an end', () => {
  const loop: { self?: unknown } = {};
  loop.self = loop;
  assert.equal(inWords(loop), '{self: {self: {self: ...}}}');
  assert.equal(inWords({ text: 'x'.repeat(100) }).length, 60);
});
