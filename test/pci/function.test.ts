/**
 * A function as hardware: odd devices, power states, resets, and the effect of a physical function's reset on virtual
 * ones.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_COMMAND, PCI_STATUS, PCI_STATUS_CAP_LIST } from '../../src/abi/pci_regs.ts';
import { Bar, MemoryTarget } from '../../src/pci/bar.ts';
import { addCapabilities, type CapabilitySpec } from '../../src/pci/capabilities.ts';
import { ConfigSpace } from '../../src/pci/config-space.ts';
import { Fabric } from '../../src/pci/fabric.ts';
import { PciFunction, type PciPowerState } from '../../src/pci/function.ts';
import { ArrayMemory } from '../../src/pci/memory.ts';
import { Port } from '../../src/pci/port.ts';
import { runner } from '../../src/task/runner.ts';
import { HOST } from '../vfio/rig.ts';

const PAGE = 4096;

function functionOf(name: string, spec: CapabilitySpec, physfn: PciFunction | null = null): PciFunction {
  const config = new ConfigSpace();
  config.set(0, 4, physfn === null ? 0x0b011b36 : 0xffffffff);
  addCapabilities(config, spec);
  const bar = new Bar(0, 'mem64', false, PAGE, new MemoryTarget(new ArrayMemory(PAGE)));
  return new PciFunction({ name, config, bars: [bar, null, null, null, null, null], physfn });
}

/** Plugs each function in below one root port. */
function plugged(...fns: PciFunction[]): PciFunction[] {
  const port = new Port('root', 'root', null);
  port.functions.push(...fns);
  new Fabric(HOST, [port]);
  return fns;
}

const run = runner.run.bind(runner);

test('the ways to reset a function are those that its registers tell, best first', () => {
  const methods = (spec: CapabilitySpec, beside: PciFunction[] = []) =>
    plugged(functionOf('device', spec), ...beside)[0].canReset();
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
    assert.equal(fn.canReset().includes('af_flr'), capable === 3);
    run(fn.configWrite(PCI_COMMAND, 2, 6));
    run(fn.configWrite(af + 4, 1, 1));
    assert.equal(fn.config.read(PCI_COMMAND, 2), capable === 3 ? 0 : 6);
  }
});

test('a function without any way to reset refuses: ENOTTY, and nothing has changed', () => {
  const [fn] = plugged(functionOf('device', {}), functionOf('sibling', {}));
  run(fn.configWrite(PCI_COMMAND, 2, 6));
  assert.throws(() => run(fn.resetFunction()), { code: 'ENOTTY' });
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
  run(vf.withStateSaved(function* () {}));
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
  run(pf.resetFunction());
  assert.equal(pf.config.read(PCI_COMMAND, 2), 6);
  assert.equal(vf.config.read(PCI_COMMAND, 2), 0);
  assert.equal(vf.memoryDecode.value, true);
});

test("a virtual function's ids are in its physical function's registers", () => {
  const pf = functionOf('pf', { sriov: { vfDevice: 0x1234 } });
  const vf = functionOf('vf', {}, pf);
  assert.deepEqual([vf.vendorId, vf.deviceId, vf.isVirtfn], [0x1b36, 0x1234, true]);
  assert.deepEqual(vf.canReset(), [], 'a bus reset is not its own');
});

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
  assert.deepEqual(fn.canReset(), ['bus']);
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

test('MSI and MSI-X are switched in their registers, where there are any', () => {
  const fn = functionOf('device', {
    msi: { vectors: 2 },
    msix: { vectors: 2, bar: 0, tableOffset: 0, pbaOffset: 0x800 },
  });
  const [msi, msix] = [fn.config.find(5) + 2, fn.config.find(0x11) + 2];
  run(fn.enableMsi('msi'));
  run(fn.enableMsi('msix'));
  assert.deepEqual([fn.config.read(msi, 2) & 1, fn.config.read(msix, 2) >> 15, fn.msixEnabled], [1, 1, true]);
  run(fn.disableMsi('msi'));
  run(fn.disableMsi('msix'));
  assert.deepEqual([fn.config.read(msi, 2) & 1, fn.msixEnabled], [0, false]);
  const without = functionOf('device', {});
  run(without.enableMsi('msi'));
  assert.equal(without.msixEnabled, false);
});

test('registers of another function of the kind: decoding and power follow, BARs and interrupts do not', () => {
  const spec: CapabilitySpec = { pm: { noSoftReset: true }, msi: { vectors: 1 } };
  const [from] = plugged(functionOf('from', spec));
  const [to] = plugged(functionOf('padding', {}), functionOf('to', spec)).slice(1);
  run(from.configWrite(PCI_COMMAND, 2, 6));
  run(from.enableMsi('msi'));
  const address = to.config.read(0x10, 4);
  run(to.loadRegisters(from.config.snapshot()));
  assert.equal(to.memoryDecode.value, true);
  assert.equal(to.config.read(to.config.find(5) + 2, 2) & 1, 0);
  assert.equal(to.config.read(0x10, 4), address);
  run(from.setPowerState(3));
  run(to.loadRegisters(from.config.snapshot()));
  assert.deepEqual([to.powerState.value, to.memoryDecode.value], [3, false]);
});
