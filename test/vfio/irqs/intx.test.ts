/** INTx: right and wrong actions in every state. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runner } from '../../../src/task/runner.ts';
import { Intx } from '../../../src/vfio/irqs/intx.ts';
import { IrqData } from '../../../src/vfio/irqs/irq-data.ts';
import { Counting, callerWith } from '../rig.ts';

const [NONE, BOOL, EVENTFD] = [1, 2, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];

function rig() {
  const events = [new Counting(), new Counting()];
  const caller = callerWith(events);
  const intx: Intx = new Intx(function* () {
    intx.unmask();
  });
  const set = (
    action: number,
    type: number,
    value: number | null = null,
    isFree = true,
    count = 1,
    start = 0,
  ): void => {
    const bytes = Buffer.alloc(4);
    if (value !== null) bytes.writeInt32LE(value);
    intx.set(action, new IrqData(type, 1, start, count, bytes), caller, isFree);
  };
  return { intx, events, caller, set };
}

test('enabled by an eventfd, and by nothing else; not beside another kind', () => {
  const { set, intx } = rig();
  for (const type of [NONE, BOOL]) assert.throws(() => set(TRIGGER, type), { code: 'EINVAL' });
  assert.throws(() => set(TRIGGER, EVENTFD, 100, false), { code: 'EINVAL' });
  assert.throws(() => set(TRIGGER, NONE, null, true, 0), { code: 'EINVAL' });
  assert.equal(intx.isActive, false);
  set(TRIGGER, EVENTFD, 100);
  assert.equal(intx.isActive, true);
});

test('masked and unmasked only while it is enabled; no eventfd masks it; an unknown action is ENOTTY', () => {
  const { set } = rig();
  for (const action of [MASK, UNMASK]) {
    for (const type of [NONE, BOOL, EVENTFD]) assert.throws(() => set(action, type, 100), { code: 'EINVAL' });
  }
  set(TRIGGER, EVENTFD, 100);
  assert.throws(() => set(MASK, EVENTFD, 101), { code: 'ENOTTY' });
  for (const action of [0, MASK | UNMASK, TRIGGER | MASK]) assert.throws(() => set(action, NONE), { code: 'ENOTTY' });
  assert.throws(() => set(MASK, NONE, null, true, 0), { code: 'EINVAL' });
  assert.throws(() => set(MASK, NONE, null, true, 1, 1), { code: 'EINVAL' }, 'there is one INTx');
  set(MASK, NONE);
  set(UNMASK, BOOL, 1);
});

test('a level is told once, and again by each unmask while it stands', () => {
  const { set, intx, events } = rig();
  const [event] = events;
  intx.onLevel(true);
  assert.equal(event.count, 0);
  set(TRIGGER, EVENTFD, 100);
  assert.equal(event.count, 1, 'it stood when it was enabled');
  intx.onLevel(true);
  assert.equal(event.count, 1, 'masked as it was delivered');
  set(UNMASK, NONE);
  assert.equal(event.count, 2);
  intx.onLevel(false);
  set(UNMASK, NONE);
  assert.equal(event.count, 2);
  set(MASK, NONE);
  intx.onLevel(true);
  assert.equal(event.count, 2);
  // A bool of 0 does nothing.
  set(UNMASK, BOOL, 0);
  assert.equal(event.count, 2);
  set(UNMASK, BOOL, 1);
  assert.equal(event.count, 3);
  set(MASK, BOOL, 0);
  intx.unmask();
  assert.equal(event.count, 4);
});

test('INTX_DISABLE keeps it back, however it is unmasked', () => {
  const { set, intx, events } = rig();
  set(TRIGGER, EVENTFD, 100);
  intx.setDisabled(true);
  intx.onLevel(true);
  set(UNMASK, NONE);
  assert.equal(events[0].count, 0);
  intx.setDisabled(false);
  assert.equal(events[0].count, 1);
});

test('an unmask eventfd unmasks; another takes its place, and disabling lets go of all', () => {
  const { set, intx, events, caller } = rig();
  set(TRIGGER, EVENTFD, 100);
  set(UNMASK, EVENTFD, 7);
  intx.onLevel(true);
  runner.run(caller.sources[0]());
  assert.equal(events[0].count, 2);
  set(UNMASK, EVENTFD, -1);
  set(TRIGGER, EVENTFD, 101);
  assert.deepEqual([events[0].released, events[1].released], [1, 0]);
  set(TRIGGER, NONE, null, true, 0);
  assert.deepEqual([intx.isActive, events[1].released], [false, 1]);
  intx.disable();
  assert.equal(events[1].released, 1);
});

test('a trigger without data, or by a bool, signals the eventfd; enabled with none, nobody hears', () => {
  const { set, intx, events } = rig();
  set(TRIGGER, EVENTFD, 100);
  set(TRIGGER, NONE);
  set(TRIGGER, BOOL, 0);
  set(TRIGGER, BOOL, 1);
  assert.equal(events[0].count, 2);
  set(TRIGGER, EVENTFD, -1);
  set(TRIGGER, NONE);
  assert.deepEqual([events[0].count, events[0].released, intx.isActive], [2, 1, true]);
});

test('enabled anew it is not masked', () => {
  const { set, intx, events } = rig();
  set(TRIGGER, EVENTFD, 100);
  set(MASK, NONE);
  set(TRIGGER, NONE, null, true, 0);
  set(TRIGGER, EVENTFD, 101);
  intx.onLevel(true);
  assert.equal(events[1].count, 1);
});
