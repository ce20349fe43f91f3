import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasColour } from '../../src/report/colour.ts';

const terminal = { isTTY: true, hasColors: () => true } as unknown as NodeJS.WriteStream;
const plainTerminal = { isTTY: true, hasColors: () => false } as unknown as NodeJS.WriteStream;
const file = { isTTY: false } as NodeJS.WriteStream;

test('colour is where a terminal has it; NO_COLOR turns it off, FORCE_COLOR on, and is the stronger one', () => {
  for (const [stream, env, expected] of [
    [terminal, {}, true],
    [plainTerminal, {}, false],
    [file, {}, false],
    [terminal, { NO_COLOR: '1' }, false],
    [terminal, { NO_COLOR: '' }, true],
    [file, { FORCE_COLOR: '1' }, true],
    [file, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
    [terminal, { FORCE_COLOR: '0' }, false],
    [terminal, { FORCE_COLOR: '' }, true],
  ] as const) {
    assert.equal(hasColour(stream, env), expected, JSON.stringify(env));
  }
});
