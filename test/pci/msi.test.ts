/** The enable bits of MSI and MSI-X. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { disableMsi, enableMsi, msixEnabled } from '../../src/pci/msi.ts';
import { functionOf, run } from './function-rig.ts';

test('MSI and MSI-X are switched in their registers, where there are any', () => {
  const fn = functionOf('device', {
    msi: { vectors: 2 },
    msix: { vectors: 2, bar: 0, tableOffset: 0, pbaOffset: 0x800 },
  });
  const [msi, msix] = [fn.config.find(5) + 2, fn.config.find(0x11) + 2];
  run(enableMsi(fn, 'msi'));
  run(enableMsi(fn, 'msix'));
  assert.deepEqual([fn.config.read(msi, 2) & 1, fn.config.read(msix, 2) >> 15, msixEnabled(fn)], [1, 1, true]);
  run(disableMsi(fn, 'msi'));
  run(disableMsi(fn, 'msix'));
  assert.deepEqual([fn.config.read(msi, 2) & 1, msixEnabled(fn)], [0, false]);
  const without = functionOf('device', {});
  run(enableMsi(without, 'msi'));
  assert.equal(msixEnabled(without), false);
});
