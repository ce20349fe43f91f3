/** Resets: the methods that registers announce, and their effect on physical and virtual functions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import type { CapabilitySpec } from '../../src/pci/capabilities.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import { resetFunction, resetMethods } from '../../src/pci/reset.ts';
import { functionOf, plugged, run } from './function-rig.ts';

test('the ways to reset a function are those that its registers tell, best first', () => {
  const methods = (spec: CapabilitySpec, beside: PciFunction[] = []) =>
    resetMethods(plugged(functionOf('device', spec), ...beside)[0]);
  assert.deepEqual(methods({}), ['bus']);
  assert.deepEqual(methods({}, [functionOf('sibling', {})]), []);
  assert.deepEqual(methods({ express: { flr: true } }), ['flr', 'bus']);
  assert.deepEqual(methods({ express: {} }), ['bus']);
  assert.deepEqual(methods({ af: true }), ['af_flr', 'bus']);
  assert.deepEqual(methods({ pm: {} }), ['pm', 'bus']);
  assert.deepEqual(methods({ pm: { noSoftReset: true } }), ['bus']);
  assert.deepEqual(methods({ pm: {}, af: true, express: { flr: true } }), ['flr', 'af_flr', 'pm', 'bus']);
});

test('an AF capability without FLR, or without pending transactions, resets nothing', () => {
  for (const capable of [0, 1, 2, 3]) {
    const fn = functionOf('device', { af: true });
    const af = fn.config.find(0x13);
    fn.config.set(af + 3, 1, capable);
    assert.equal(resetMethods(fn).includes('af_flr'), capable === 3);
    run(fn.configWrite(PCI_COMMAND, 2, 6));
    run(fn.configWrite(af + 4, 1, 1));
    assert.equal(fn.config.read(PCI_COMMAND, 2), capable === 3 ? 0 : 6);
  }
});

test('a function without any way to reset refuses: ENOTTY, and nothing has changed', () => {
  const [fn] = plugged(functionOf('device', {}), functionOf('sibling', {}));
  run(fn.configWrite(PCI_COMMAND, 2, 6));
  assert.throws(() => run(resetFunction(fn)), { code: 'ENOTTY' });
  assert.equal(fn.config.read(PCI_COMMAND, 2), 6);
});

test('a reset of a physical function is seen in the registers and the decoding of its virtual ones', () => {
  const pf = functionOf('pf', { express: { flr: true }, sriov: { vfDevice: 0x1234 } });
  const vf = functionOf('vf', { express: { flr: true } }, pf);
  plugged(pf, vf);
  const msi = vf.config.find(0x10) + 8;
  run(vf.configWrite(PCI_COMMAND, 2, 4));
  const atPowerOn = vf.config.read(msi, 2);
  run(vf.configWrite(msi, 2, 0x0007));
  run(pf.configWrite(PCI_COMMAND, 2, 6));
  // A VF decodes if its PF's enable bit is set, and has no memory bit.
  run(vf.restoreState(vf.config.save()));
  assert.equal(vf.memoryDecode.value, true);
  let seen = true;
  pf.lifecycle.reset = () => {
    seen = vf.memoryDecode.value;
  };
  run(pf.hardwareReset());
  assert.equal(vf.config.read(PCI_COMMAND, 2), 0, 'bus mastering is off');
  assert.equal(vf.config.read(msi, 2), atPowerOn);
  assert.equal(vf.memoryDecode.value, false);
  assert.equal(seen, true, 'the PF comes first');
  // The function-level reset saves and restores only the PF. Its VFs come back as at power-on, and decode again.
  run(pf.configWrite(PCI_COMMAND, 2, 6));
  run(vf.configWrite(PCI_COMMAND, 2, 4));
  run(resetFunction(pf));
  assert.equal(pf.config.read(PCI_COMMAND, 2), 6);
  assert.equal(vf.config.read(PCI_COMMAND, 2), 0);
  assert.equal(vf.memoryDecode.value, true);
});
