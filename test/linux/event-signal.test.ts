import assert from 'node:assert/strict';
import { test } from 'node:test';
import { F_SETFL, O_NONBLOCK } from '../../src/abi/fcntl.ts';
import { EventfdSignal } from '../../src/linux/event-signal.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { PollSet } from '../../src/linux/poll.ts';
import { leavesNoFds } from './open-fds.ts';
import { Rescue } from './rescue.ts';

const MOST = 0xfffffffffffffffen;

/** The counter of the peer is full, and whoever writes to it waits. */
function fillAndBlock(fd: OwnedFd): void {
  const word = new Pinned(8);
  readEventfd(fd.fd);
  word.view.setBigUint64(0, MOST, true);
  sys.fcntl(fd.fd, F_SETFL, O_NONBLOCK);
  sys.write(fd.fd, word.address, 8);
  sys.fcntl(fd.fd, F_SETFL, 0);
}

// What is opened once for a thread is no leak.
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
