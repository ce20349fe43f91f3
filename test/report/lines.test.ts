import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { beside, hang, timedStepText } from '../../src/report/lines.ts';

const words = fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1, maxLength: 30 });

test('no line that is broken is longer than the terminal, and no word is lost', () => {
  fc.assert(
    fc.property(words, fc.nat(8), fc.integer({ min: 24, max: 60 }), (text, indent, width) => {
      const lines = hang(text.join(' '), indent, width, indent).split('\n');
      for (const [i, line] of lines.entries()) assert.ok(line.length + (i === 0 ? indent : 0) <= width, line);
      assert.deepEqual(
        lines.flatMap((line) => line.trim().split(' ')),
        text,
      );
    }),
  );
});

test('what does not fit beside goes below', () => {
  assert.equal(beside('left', 'right', 2, 40), 'left  right');
  assert.equal(beside('left', 'right', 2, 10), 'left\n  right');
  assert.equal(beside('left', '', 2, 10), 'left');
});

test('a step has its time where it took any, and its detail below where the line is full', () => {
  const step = { name: 'lend', ok: true, ms: 1.25, detail: '' };
  assert.equal(timedStepText(step), `  ok    ${'lend'.padEnd(36)}      1.3 ms`);
  assert.match(
    timedStepText({ ...step, ok: false, detail: 'x '.repeat(20).trim() }, 80),
    /^FAILED {2}lend .*ms\n {8}x x/,
  );
});
