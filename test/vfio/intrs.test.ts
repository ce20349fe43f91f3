/** The kinds of interrupts together: the size of each index, and that only one of three kinds is enabled. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PCI_COMMAND } from '../../src/abi/pci_regs.ts';
import { runner } from '../../src/task/runner.ts';
import { Counting, callerWith, configOf, opened } from './rig.ts';

const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];

function rig(pin = 1) {
  const config = configOf([
    { id: 0x05, at: 0x40, registers: { 0: 0x00840000 } },
    { id: 0x11, at: 0x60, registers: { 0: 0x00020000, 4: 2 } },
  ]);
  config.set(0x3d, 1, pin);
  const events = Array.from({ length: 5 }, () => new Counting());
  const all = opened(config);
  const caller = callerWith(events);
  const set = (index: number, flags: number, fds: readonly number[] = [], start = 0, count = fds.length): void => {
    const bytes = Buffer.alloc(4 * fds.length);
    for (const [i, fd] of fds.entries()) bytes.writeInt32LE(fd, 4 * i);
    runner.run(all.vdev.setIrqs(flags, index, start, count, bytes, caller));
  };
  return { ...all, events, set };
}

test('how many interrupts each index has, and what may be done with them', () => {
  const { vdev } = rig();
  const info = [INTX, MSI, MSIX, ERR, REQ].map((index) => vdev.interrupts.irqInfo(index));
  assert.deepEqual(
    info.map(({ count }) => count),
    [1, 4, 3, 1, 1],
  );
  assert.deepEqual(
    info.map(({ flags }) => flags),
    [7, 9, 1, 9, 9],
  );
  for (const index of [-1, 5]) assert.throws(() => vdev.interrupts.irqInfo(index), { code: 'EINVAL' });
  assert.equal(rig(0).vdev.interrupts.irqInfo(INTX).count, 0);
  const bare = opened(configOf([])).vdev.interrupts;
  assert.deepEqual(
    [MSI, MSIX].map((index) => bare.irqInfo(index)),
    [
      { index: MSI, flags: 9, count: 0 },
      { index: MSIX, flags: 9, count: 0 },
    ],
  );
});

test('INTx, MSI and MSI-X exclude each other, and each gives way when it is disabled', () => {
  const kinds = [INTX, MSI, MSIX];
  for (const one of kinds) {
    const { set, vdev } = rig();
    set(one, 0x24, [100]);
    for (const other of kinds) {
      if (other !== one) assert.throws(() => set(other, 0x24, [101]), { code: 'EINVAL' });
    }
    set(one, 0x21);
    assert.equal(vdev.interrupts.isMsiActive, false);
    const next = kinds[(one + 1) % 3];
    set(next, 0x24, [101]);
    assert.equal(vdev.interrupts.isMsiActive, next === MSI);
  }
});

test('actions that an index does not have are ENOTTY, and the next request is served', () => {
  const { set } = rig();
  for (const index of [MSI, MSIX, ERR, REQ]) {
    for (const action of [0x08, 0x10, 0x00]) assert.throws(() => set(index, action | 1, [], 0, 1), { code: 'ENOTTY' });
  }
  set(MSI, 0x24, [100]);
});

test('nobody has an index without interrupts, not even to disable it', () => {
  const { set } = rig(0);
  assert.throws(() => set(INTX, 0x21), { code: 'EINVAL' });
  assert.throws(() => set(9, 0x21), { code: 'EINVAL' });
});

test('what the device raises goes to the kind that is enabled', () => {
  const { fn, set, events, write } = rig();
  set(MSI, 0x24, [100, 101]);
  fn.interrupts!.msi(1);
  fn.interrupts!.intx(true);
  assert.deepEqual(
    events.map(({ count }) => count),
    [0, 1, 0, 0, 0],
  );
  set(MSI, 0x21);
  set(INTX, 0x24, [102]);
  assert.equal(events[2].count, 1);
  write(PCI_COMMAND, 2, 0x0406);
  set(INTX, 0x11, [], 0, 1);
  assert.equal(events[2].count, 1, 'the user disabled INTx in COMMAND');
  write(PCI_COMMAND + 1, 1, 0);
  assert.equal(events[2].count, 2);
});

test('a close lets go of every eventfd; a driver that wants its device back asks by REQ', () => {
  const { vdev, set, events } = rig();
  set(MSIX, 0x24, [100, 101]);
  set(ERR, 0x24, [102]);
  set(REQ, 0x24, [103]);
  const unregistering = runner.start('unregister', vdev.unregister());
  runner.drain();
  assert.deepEqual([events[3].count, unregistering.ended], [1, false]);
  runner.run(vdev.close());
  runner.drain();
  assert.equal(unregistering.ended, true);
  assert.deepEqual(
    events.map(({ released }) => released),
    [1, 1, 1, 1, 0],
  );
});

test('nobody is asked for a device that nobody has open', () => {
  const { vdev, set, events } = rig();
  set(REQ, 0x24, [100]);
  runner.run(vdev.close());
  runner.run(vdev.unregister());
  assert.equal(events[0].count, 0);
});
