/** Each way to hold a file, tried on one end of a pair of sockets: the other hangs up when nothing holds that end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { POLLHUP, POLLIN } from '../../src/abi/poll.ts';
import { closeAll, type OwnedFd } from '../../src/linux/fd.ts';
import { type HoldKind, holdFd } from '../../src/linux/hold.ts';
import { pollOne } from '../../src/linux/poll.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { openFds } from './open-fds.ts';

/** Whether a hold keeps the file, after the descriptor that it came from is closed. */
const KEEPS: Readonly<Record<HoldKind, boolean>> = {
  fork: true,
  'scm-rights': true,
  'o-path': false,
  'io-uring': true,
  epoll: false,
};

const isHungUp = (fd: OwnedFd, waitMs: number): boolean => (pollOne(fd.fd, POLLIN, waitMs) & POLLHUP) !== 0;

for (const [how, keeps] of Object.entries(KEEPS) as [HoldKind, boolean][]) {
  test(`${how}: the file is ${keeps ? 'held' : 'not held'} without its descriptor, and nothing is left`, {
    timeout: 60_000,
  }, async (t) => {
    const before = openFds().length;
    const [ours, theirs] = socketPair();
    let hold: ReturnType<typeof holdFd>;
    try {
      hold = holdFd(theirs, how);
    } catch (error) {
      closeAll([ours, theirs]);
      const { code } = error as { code?: string };
      if (how === 'io-uring' && (code === 'ENOSYS' || code === 'EPERM')) return t.skip(`NOT RUN: io_uring is ${code}`);
      throw error;
    }
    theirs.close();
    assert.equal(isHungUp(ours, 0), !keeps);
    hold.release();
    assert.equal(isHungUp(ours, 10_000), true);
    ours.close();
    // Node closes its end of a child's pipe a little later.
    while (openFds().length !== before) await nextTurn();
  });
}

test('a file that cannot be held is refused, and nothing is left', () => {
  const [file, other] = socketPair();
  file.close();
  other.close();
  const before = openFds().length;
  for (const how of Object.keys(KEEPS) as HoldKind[]) assert.throws(() => holdFd(file, how), { code: 'EBADF' });
  assert.equal(openFds().length, before);
});
