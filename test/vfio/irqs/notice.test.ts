/** ERR and REQ: one eventfd each, set, triggered and removed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VFIO_PCI_REQ_IRQ_INDEX } from '../../../src/abi/vfio.ts';
import { IrqData } from '../../../src/vfio/irqs/irq-data.ts';
import { Notice } from '../../../src/vfio/irqs/notice.ts';
import { Counting, callerWith } from '../rig.ts';

const [NONE, BOOL, EVENTFD] = [1, 2, 4];

test('an eventfd is kept until another, -1, or nothing takes its place', () => {
  const events = [new Counting(), new Counting()];
  const notice = new Notice(VFIO_PCI_REQ_IRQ_INDEX);
  const set = (type: number, value = 0, count = 1): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    notice.set(new IrqData(type, 1, 0, count, bytes), callerWith(events));
  };
  notice.signal();
  for (const count of [0, 1]) assert.throws(() => set(NONE, 0, count), { code: 'EINVAL' });
  assert.throws(() => set(BOOL, 1, 0), { code: 'EINVAL' });
  assert.throws(() => set(EVENTFD, 100, 0), { code: 'EINVAL' });
  assert.throws(() => set(EVENTFD, -2), { code: 'EINVAL' });
  set(BOOL, 1);
  set(EVENTFD, 100);
  set(BOOL, 0);
  set(BOOL, 1);
  set(NONE);
  notice.signal();
  assert.equal(events[0].count, 3);
  set(EVENTFD, 101);
  set(EVENTFD, -1);
  assert.deepEqual(
    events.map(({ released }) => released),
    [1, 1],
  );
  set(EVENTFD, 100);
  set(NONE, 0, 0);
  assert.equal(events[0].released, 2);
  notice.release();
  assert.equal(events[0].released, 2);
});
