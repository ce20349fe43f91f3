import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BufferMemory } from '../../src/vfio/user.ts';

test('an argument that is a buffer: its bytes, and EFAULT behind them', () => {
  const memory = new BufferMemory(Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual([...memory.read(1, 2)], [2, 3]);
  memory.write(2, Uint8Array.of(9, 8));
  assert.deepEqual([...memory.read(0, 4)], [1, 2, 9, 8]);
  assert.throws(() => memory.read(3, 2), { code: 'EFAULT' });
  assert.throws(() => memory.write(4, Uint8Array.of(1)), { code: 'EFAULT' });
});
