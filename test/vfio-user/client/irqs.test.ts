/** SET_IRQS: the messages that a set of interrupts takes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { viewOf } from '../../../src/abi/layout.ts';
import { vfio_irq_set } from '../../../src/abi/vfio.ts';
import type { Peer } from '../../../src/vfio-user/client/exchange.ts';
import { type IrqSet, setIrqs } from '../../../src/vfio-user/client/irqs.ts';

/** [start, count, eventfds] of each message, for a peer that takes so many descriptors in one. */
function messages(maxMsgFds: number, set: Partial<IrqSet>): [number, number, readonly number[]][] {
  const peer = { capabilities: { maxMsgFds } } as Peer;
  const sent: [number, number, readonly number[]][] = [];
  const exchange = setIrqs(peer, { flags: 0x24, index: 2, start: 0, count: 0, ...set });
  for (let next = exchange.next(); next.done !== true; next = exchange.next({ payload: Buffer.alloc(0), fds: [] })) {
    const { payload, fds = [] } = next.value;
    const { start, count, index } = vfio_irq_set.read(viewOf(payload));
    assert.equal(index, 2);
    sent.push([start, count, fds]);
  }
  return sent;
}

test('what fits into one message is one message', () => {
  assert.deepEqual(messages(16, { count: 0 }), [[0, 0, []]]);
  const fds = Array.from({ length: 16 }, (_, i) => 100 + i);
  assert.deepEqual(messages(16, { start: 3, count: 16, eventfds: fds }), [[3, 16, fds]]);
  // The server refuses these: the client does not guess.
  assert.deepEqual(messages(2, { count: 2, eventfds: [1, 2, 3] }), [[0, 2, [1, 2, 3]]]);
  assert.deepEqual(messages(0, { count: 3, eventfds: [1, 2, 3] }), [[0, 3, [1, 2, 3]]]);
});

test('more eventfds: all interrupts at once without any, then each part where it belongs', () => {
  assert.deepEqual(messages(2, { start: 4, count: 5, eventfds: [10, 11, 12, 13, 14] }), [
    [4, 5, []],
    [4, 2, [10, 11]],
    [6, 2, [12, 13]],
    [8, 1, [14]],
  ]);
});
