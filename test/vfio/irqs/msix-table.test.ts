import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findMsixTable } from '../../../src/vfio/irqs/msix-table.ts';
import { configOf } from '../rig.ts';

test('the table is where its register says, of 16 bytes for each vector; null without MSI-X', () => {
  assert.equal(findMsixTable(configOf([{ id: 0x05, at: 0x40 }])), null);
  const config = configOf([{ id: 0x11, at: 0x40, registers: { 0: 0xc7ff0000, 4: 0xfffff00c } }]);
  assert.deepEqual(findMsixTable(config), { barIndex: 4, offset: 0xfffff008, sizeBytes: 2048 * 16 });
});
