/** MSI and MSI-X: vectors that are added and removed, and blocks that fail. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from '../../../src/abi/vfio.ts';
import { runner } from '../../../src/task/runner.ts';
import { IrqData } from '../../../src/vfio/irqs/irq-data.ts';
import { MessageInterrupts } from '../../../src/vfio/irqs/message.ts';
import { PROFILES, type Profile } from '../../../src/vfio/profile.ts';
import { Counting, callerWith, configOf, opened } from '../rig.ts';

const [NONE, BOOL, EVENTFD] = [1, 2, 4];

function rig(index: number, profile: Profile = PROFILES.default) {
  const config = configOf([
    { id: 0x05, at: 0x40, registers: { 0: 0x00860000 } },
    { id: 0x11, at: 0x60, registers: { 0: 0x00070000 } },
    { id: 0x01, at: 0x80, registers: { 4: 8 } },
  ]);
  const { fn } = opened(config);
  const events = Array.from({ length: 8 }, () => new Counting());
  const caller = callerWith(events);
  const irqs = new MessageInterrupts(index, fn, profile);
  const set = (type: number, start: number, values: readonly number[], isFree = true, count = values.length): void => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) {
      if (type === BOOL) bytes[i] = value;
      else bytes.writeInt32LE(value, 4 * i);
    }
    runner.run(irqs.set(new IrqData(type, 8, start, count, bytes), caller, isFree));
  };
  const register = index === VFIO_PCI_MSI_IRQ_INDEX ? 0x42 : 0x62;
  const enabled = () => fn.config.read(register, 2) & (index === VFIO_PCI_MSI_IRQ_INDEX ? 1 : 0x8000);
  return { fn, irqs, events, set, enabled };
}

for (const index of [VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX]) {
  test(`index ${index}: the first eventfds enable the hardware, none disable it`, () => {
    const { irqs, events, set, enabled } = rig(index);
    assert.throws(() => set(NONE, 0, [0]), { code: 'EINVAL' });
    assert.throws(() => set(NONE, 0, [], true, 0), { code: 'EINVAL' });
    assert.throws(() => set(EVENTFD, 0, [100], false), { code: 'EINVAL' });
    assert.equal(enabled(), 0);
    set(EVENTFD, 0, [100, 101, 102]);
    assert.notEqual(enabled(), 0);
    assert.equal(irqs.queueMax, 2);
    irqs.onMessage(1);
    set(NONE, 0, [0, 0]);
    set(BOOL, 0, [0, 1, 1]);
    assert.deepEqual(
      events.slice(0, 3).map(({ count }) => count),
      [1, 3, 1],
    );
    set(NONE, 0, [], true, 0);
    assert.deepEqual(
      [enabled(), irqs.isActive, ...events.slice(0, 3).map(({ released }) => released)],
      [0, false, 1, 1, 1],
    );
    irqs.onMessage(0);
    assert.equal(events[0].count, 1);
    assert.equal(irqs.queueMax, 2, 'the size of the last time is remembered');
  });

  test(`index ${index}: not from a power state that has no messages`, () => {
    const { fn, set } = rig(index);
    runner.run(fn.setPowerState(3));
    assert.throws(() => set(EVENTFD, 0, [100]), { code: 'EINVAL' });
  });
}

test('MSI keeps the vectors that it was enabled with; MSI-X takes more', () => {
  const msi = rig(VFIO_PCI_MSI_IRQ_INDEX);
  msi.set(EVENTFD, 0, [100, 101]);
  assert.throws(() => msi.set(EVENTFD, 2, [102]), { code: 'EINVAL' });
  msi.set(EVENTFD, 2, [-1]);
  const msix = rig(VFIO_PCI_MSIX_IRQ_INDEX);
  msix.set(EVENTFD, 0, [100]);
  msix.set(EVENTFD, 7, [107]);
  msix.irqs.onMessage(7);
  assert.equal(msix.events[7].count, 1);
});

test('a block that fails changes nothing; as Linux does it, what came before it is dropped, and it', () => {
  for (const profile of [PROFILES.default, PROFILES['linux-7.3']]) {
    const { irqs, events, set } = rig(VFIO_PCI_MSI_IRQ_INDEX, profile);
    set(EVENTFD, 0, [100, 101, 102]);
    assert.throws(() => set(EVENTFD, 1, [103, 104, 105]), { code: 'EINVAL' });
    for (const vector of [0, 1, 2]) irqs.onMessage(vector);
    const kept = profile.irqsAllOrNone ? 1 : 0;
    assert.deepEqual(
      events.map(({ count }) => count),
      [1, kept, kept, 0, 0, 0, 0, 0],
    );
    assert.deepEqual(
      events.slice(3, 6).map(({ released }) => released),
      [1, 1, 1],
    );
  }
});
