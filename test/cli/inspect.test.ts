import assert from 'node:assert/strict';
import { test } from 'node:test';
import { barter } from './barter.ts';

test('inspect fits a terminal of 80 columns, and says who reaches whom', () => {
  const { status, stdout } = barter('inspect', 'examples/two-peers.yaml');
  assert.equal(status, 0);
  assert.deepEqual(
    stdout.split('\n').filter((line) => line.length > 80),
    [],
  );
  assert.match(stdout, /^lender {6}2 {2}mem32 {15}4K {4}0x80000000$/m);
  assert.match(stdout, /^lender\n {2}PM@0x40 EXP@0x48 MSIX@0x84$/m);
  assert.match(stdout, /^lender {5}bus-addr 0 {2}bus-addr 4$/m);
});

test('a folder as machine file is wrong usage, in one line', () => {
  const { status, stdout, stderr } = barter('inspect', 'examples');
  assert.deepEqual([status, stdout], [2, '']);
  assert.equal(stderr, 'barter: examples: this is a folder; name a file in it\n');
});
