/** A guest's console in parts, as lines without what only a terminal understands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestConsole } from '../../src/web/guest-console.ts';

const linesOf = (parts: readonly Uint8Array[]): string[] => {
  const lines: string[] = [];
  const console = new GuestConsole((some) => lines.push(...some));
  for (const part of parts) console.take(part);
  return lines;
};

test('colours, carriage returns and cursor movements are left out, text and tabs stay', () => {
  const text = '\x1b[0;32m[    0.1] Linux\x1b[m\tgrün\r\n\x1b[2J\x1b[1;1Hsecond\r\nnot ended';
  assert.deepEqual(linesOf([Buffer.from(text)]), ['[    0.1] Linux\tgrün', 'second']);
});

test('the lines are the same however the output is cut', () => {
  const bytes = Buffer.from('\x1b[1mä€😀\x1b[0m\r\n\n\x1b[31;1mx\ny\n');
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: bytes.length })), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      const parts = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
      assert.deepEqual(linesOf(parts), ['ä€😀', '', 'x', 'y']);
    }),
  );
});
