import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryDevice } from '../../src/device/memory.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';

const IDENTITY = { vendorId: 1, deviceId: 2, classCode: 3, revision: 4 };

test('a BAR of bytes for each that is described, and the table in the one that MSI-X names', () => {
  const labels: string[] = [];
  const memory = (label: string, sizeBytes: number) => {
    labels.push(label);
    return new ArrayMemory(sizeBytes);
  };
  const msix = { vectors: 2, bar: 2, tableOffset: 0x20, pbaOffset: 0x80 };
  const device = new MemoryDevice('lender', IDENTITY, { msix }, [
    { index: 0, kind: 'mem64', prefetchable: true, sizeBytes: 4096 },
    { index: 2, kind: 'mem32', prefetchable: false, sizeBytes: 256 },
  ]);
  const bars = device.bars(memory);
  assert.deepEqual(labels, ['lender.bar0', 'lender.bar2']);
  assert.deepEqual(
    bars.map((bar) => bar?.kind ?? null),
    ['mem64', null, 'mem32', null, null, null],
  );
  assert.deepEqual([bars[0]!.prefetchable, bars[0]!.index, bars[2]!.sizeBytes], [true, 0, 256]);
  const table = new Uint8Array(256);
  bars[2]!.target.read(0, table);
  assert.deepEqual(
    [...table.keys()].filter((i) => table[i] !== 0),
    [0x2c, 0x3c],
  );
  const plain = new Uint8Array(4096);
  bars[0]!.target.read(0, plain);
  assert.ok(plain.every((byte) => byte === 0));
});
