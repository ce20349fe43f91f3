import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventfdSignal } from '../../src/linux/event-signal.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { PollSet } from '../../src/linux/poll.ts';
import { leavesNoFds } from './open-fds.ts';
import { fillAndBlock, Rescue } from './rescue.ts';

// Everything that a thread opens once is not a leak.
new EventfdSignal(createEventfd()).signal();

test('each signal counts, however many', () =>
  leavesNoFds(() => {
    const fd = createEventfd('irq');
    const signal = new EventfdSignal(fd.duplicate());
    for (let i = 0; i < 1000; i++) signal.signal();
    assert.equal(readEventfd(fd.fd), 1000);
    signal.release();
    fd.close();
  }));

test('a peer that fills the counter between a look and the signal, and makes it blocking, holds up nobody', async (t) => {
  const fd = createEventfd('irq');
  const signal = new EventfdSignal(fd.duplicate());
  const rescue = new Rescue('head -c 8 <&3 >/dev/null', fd.fd);
  const look = PollSet.prototype.wait;
  t.mock.method(PollSet.prototype, 'wait', function (this: PollSet, timeoutMs: number) {
    const room = look.call(this, timeoutMs);
    fillAndBlock(fd);
    return room;
  });
  signal.signal();
  fillAndBlock(fd);
  signal.signal();
  assert.ok(!rescue.came, 'the signal waited for the peer');
  await rescue.end();
  signal.release();
  fd.close();
});
