/** Power states: the ones that a function has, decoding in them, and registers that D3hot loses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import type { PciPowerState } from '../../src/pci/power-state.ts';
import { functionOf, run } from './function-rig.ts';

test('power states: only D1 and D2 that it has, and from each of them only to D0 or deeper', () => {
  const states: PciPowerState[] = [0, 1, 2, 3];
  for (const d1 of [false, true]) {
    for (const d2 of [false, true]) {
      for (const from of states) {
        for (const to of states) {
          const fn = functionOf('device', { pm: { d1, d2, noSoftReset: true } });
          run(fn.setPowerState(from));
          const start = fn.powerState.value;
          assert.equal(start, (from === 1 && !d1) || (from === 2 && !d2) ? 0 : from);
          run(fn.setPowerState(to));
          const has = to === 0 || to === 3 || (to === 1 ? d1 : d2);
          assert.equal(fn.powerState.value, has && (to === 0 || to > start) ? to : start, `D${start} to D${to}`);
        }
      }
    }
  }
});

test('memory decodes in D0 with the memory bit, and in no other state', () => {
  const fn = functionOf('device', { pm: { d1: true, d2: true, noSoftReset: true } });
  run(fn.configWrite(PCI_COMMAND, 2, 2));
  assert.equal(fn.memoryDecode.value, true);
  for (const state of [1, 2, 3] as const) {
    run(fn.setPowerState(state));
    assert.equal(fn.memoryDecode.value, false, `D${state}`);
    run(fn.setPowerState(0));
    assert.equal(fn.memoryDecode.value, true);
  }
  run(fn.configWrite(PCI_COMMAND, 1, 0));
  assert.equal(fn.memoryDecode.value, false);
});

test('a raw write to D0 from D3hot resets what has no No_Soft_Reset; set by the kernel, registers come back', () => {
  for (const noSoftReset of [false, true]) {
    const fn = functionOf('device', { pm: { noSoftReset } });
    const control = fn.config.find(1) + 4;
    run(fn.configWrite(PCI_COMMAND, 2, 6));
    run(fn.configWrite(control, 2, 3));
    run(fn.configWrite(control, 2, 0));
    assert.equal(fn.config.read(PCI_COMMAND, 2), noSoftReset ? 6 : 0);
    run(fn.configWrite(PCI_COMMAND, 2, 6));
    run(fn.setPowerState(3));
    run(fn.setPowerState(0));
    assert.equal(fn.config.read(PCI_COMMAND, 2), 6);
    assert.equal(fn.memoryDecode.value, true);
  }
});

test('a raw write to D0 from D1 or D2 resets nothing', () => {
  for (const state of [1, 2]) {
    const fn = functionOf('device', { pm: { d1: true, d2: true } });
    const control = fn.config.find(1) + 4;
    run(fn.configWrite(PCI_COMMAND, 2, 6));
    run(fn.configWrite(control, 2, state));
    run(fn.configWrite(control, 2, 0));
    assert.deepEqual([fn.powerState.value, fn.config.read(PCI_COMMAND, 2)], [0, 6], `D${state}`);
  }
});
