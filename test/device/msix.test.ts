import assert from 'node:assert/strict';
import { test } from 'node:test';
import { msixMemory } from '../../src/device/msix.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';

test('every vector starts masked, and nothing else is touched', () => {
  const memory = msixMemory(new ArrayMemory(128), 3, 16);
  const bytes = new Uint8Array(128);
  memory.read(0, bytes);
  assert.deepEqual(
    [...bytes.keys()].filter((i) => bytes[i] !== 0),
    [28, 44, 60],
  );
  assert.deepEqual([bytes[28], bytes[44], bytes[60]], [1, 1, 1]);
});
