/** A function as hardware: odd devices, identity, loads and stores, registers that a migration brings. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_COMMAND, PCI_STATUS, PCI_STATUS_CAP_LIST } from '../../src/abi/pci_regs.ts';
import type { CapabilitySpec } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { enableMsi } from '../../src/pci/msi.ts';
import { resetMethods } from '../../src/pci/reset.ts';
import { functionOf, plugged, run } from './function-rig.ts';

test("a virtual function's ids are in its physical function's registers", () => {
  const pf = functionOf('pf', { sriov: { vfDevice: 0x1234 } });
  const vf = functionOf('vf', {}, pf);
  assert.deepEqual([vf.vendorId, vf.deviceId, vf.isVirtfn], [0x1b36, 0x1234, true]);
  assert.deepEqual(resetMethods(vf), [], 'a bus reset is not its own');
});

test('capability lists that loop stop nothing: writes, resets and power states look their registers up', () => {
  const config = new ConfigSpace();
  config.set(PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
  config.set(0x34, 1, 0x40);
  config.set(0x40, 2, 0x4009);
  const fn = new PciFunction({ name: 'loop', config, bars: [null, null, null, null, null, null] });
  plugged(fn);
  run(fn.configWrite(PCI_COMMAND, 2, 6));
  run(fn.setPowerState(3));
  assert.equal(fn.powerState.value, 0);
  assert.deepEqual(resetMethods(fn), ['bus']);
});

test('loads and stores of the CPU: ones and nothing where memory is off, told as stray', () => {
  const [fn] = plugged(functionOf('device', {}));
  const strays: boolean[] = [];
  fn.fabric!.onStrayTlp = ({ isWrite, requester }) => strays.push(isWrite && requester === null);
  const bytes = new Uint8Array(2);
  fn.mmio(fn.bars[0]!, 0, Uint8Array.of(1, 2), true);
  fn.mmio(fn.bars[0]!, 0, bytes, false);
  assert.deepEqual(
    [[...bytes], strays],
    [
      [0xff, 0xff],
      [true, false],
    ],
  );
  run(fn.configWrite(PCI_COMMAND, 2, 2));
  fn.mmio(fn.bars[0]!, 0, bytes, false);
  assert.deepEqual([...bytes], [0, 0], 'the store was lost');
});

test('registers of another function of the kind: decoding and power follow, BARs and interrupts do not', () => {
  const spec: CapabilitySpec = { pm: { noSoftReset: true }, msi: { vectors: 1 } };
  const [from] = plugged(functionOf('from', spec));
  const [to] = plugged(functionOf('padding', {}), functionOf('to', spec)).slice(1);
  run(from.configWrite(PCI_COMMAND, 2, 6));
  run(enableMsi(from, 'msi'));
  const address = to.config.read(0x10, 4);
  run(to.loadRegisters(from.config.snapshot()));
  assert.equal(to.memoryDecode.value, true);
  assert.equal(to.config.read(to.config.find(5) + 2, 2) & 1, 0);
  assert.equal(to.config.read(0x10, 4), address);
  run(from.setPowerState(3));
  run(to.loadRegisters(from.config.snapshot()));
  assert.deepEqual([to.powerState.value, to.memoryDecode.value], [3, false]);
});
