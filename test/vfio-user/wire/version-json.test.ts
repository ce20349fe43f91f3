import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Errno } from '../../../src/abi/errno.ts';
import { integerOf, parseVersionJson } from '../../../src/vfio-user/wire/version-json.ts';

test('integers keep 64 bits', () => {
  const json = parseVersionJson('{"a": 18446744073709551615, "b": "7"}');
  assert.equal(integerOf(json, 'a', 0), 2n ** 64n - 1n);
  assert.equal(json.b, '7');
});

test('whatever a peer sends, the reason is one line that a terminal can show', () => {
  const bytes = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom('{', '}', '"', 'I', '\n', '\r', '\x1b', '\x7f', '\x9b', '\u2028', '\\', ','))
      .map((some) => some.join('')),
  );
  fc.assert(
    fc.property(bytes, (text) => {
      try {
        integerOf(parseVersionJson(text), 'a', 0);
        integerOf({ a: text }, 'a', 0);
      } catch (error) {
        assert.ok(error instanceof Errno);
        assert.doesNotMatch(error.message, /[\p{Cc}\p{Zl}\p{Zp}]/u);
      }
    }),
    { numRuns: 2000 },
  );
});
