import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Errno } from '../../src/abi/errno.ts';
import { F_GETFD, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SETFL, FD_CLOEXEC } from '../../src/abi/fcntl.ts';
import { createEventfd, readEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { closeAll, OwnedFd } from '../../src/linux/fd.ts';
import { check, sys } from '../../src/linux/ffi.ts';
import { addSeals, createMemfd, sealsOf } from '../../src/linux/memfd.ts';
import { leavesNoFds } from './open-fds.ts';
import { Rescue } from './rescue.ts';

const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

test('a failing call names itself, its arguments and its errno', () => {
  assert.equal(sys.close(-1), -9);
  assert.throws(
    () => check(sys.close(1 << 30), () => 'close(1073741824)'),
    refused('EBADF', /^EBADF: close\(1073741824\)/),
  );
});

test('an owned descriptor closes once, and says so afterwards', () => {
  leavesNoFds(() => {
    const fd = createEventfd('the doorbell');
    assert.ok(fd.isOpen);
    fd.close();
    fd.close();
    assert.ok(!fd.isOpen);
    assert.throws(() => fd.fd, refused('EBADF', /the doorbell: used after it was closed/));
    assert.throws(() => fd.duplicate(), refused('EBADF', /doorbell/));
    assert.throws(() => new OwnedFd(-1, 'nothing'), refused('EBADF', /nothing: -1/));
  });
});

test('release gives the number away, duplicate makes a second owner; both are close-on-exec', () => {
  leavesNoFds(() => {
    const first = createEventfd();
    const second = first.duplicate();
    for (const fd of [first, second]) assert.equal(sys.fcntl(fd.fd, F_GETFD, 0) & FD_CLOEXEC, FD_CLOEXEC);
    const number = first.release();
    assert.ok(!first.isOpen);
    signalEventfd(number);
    assert.equal(readEventfd(second.fd), 1);
    assert.equal(sys.close(number), 0);
    second.close();
  });
});

test('closeAll closes the rest when one fails', () => {
  leavesNoFds(() => {
    const [a, b] = [createEventfd('a'), createEventfd('b')];
    sys.close(a.fd);
    assert.throws(() => closeAll([a, b]), refused('EBADF', /of a/));
    assert.ok(!b.isOpen);
  });
});

test('an eventfd counts, and empties at a read', () => {
  leavesNoFds(() => {
    const fd = createEventfd('irq', 3);
    signalEventfd(fd.fd);
    signalEventfd(fd.fd);
    assert.equal(readEventfd(fd.fd), 5);
    assert.equal(readEventfd(fd.fd), 0);
    fd.close();
    const semaphore = createEventfd('semaphore', 2, true);
    assert.deepEqual([readEventfd(semaphore.fd), readEventfd(semaphore.fd), readEventfd(semaphore.fd)], [1, 1, 0]);
    semaphore.close();
    assert.throws(() => signalEventfd(1 << 30), refused('EBADF', /eventfd/));
  });
});

test('an empty eventfd that a peer made blocking is not waited for', async () => {
  const fd = createEventfd();
  assert.equal(sys.fcntl(fd.fd, F_SETFL, 0), 0);
  const rescue = new Rescue("printf '\\1\\0\\0\\0\\0\\0\\0\\0' >&3", fd.fd);
  assert.equal(readEventfd(fd.fd), 0);
  assert.ok(!rescue.came);
  await rescue.end();
  fd.close();
});

test('a memfd has its size and cannot change it', () => {
  leavesNoFds(() => {
    const memfd = createMemfd('bar0', 8192);
    assert.equal(fstatSync(memfd.fd).size, 8192);
    assert.equal(sealsOf(memfd.fd), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    assert.equal(sys.ftruncate(memfd.fd, 4096), -1);
    assert.equal(sys.ftruncate(memfd.fd, 16384), -1);
    assert.throws(() => addSeals(memfd.fd, F_SEAL_GROW), refused('EPERM', /F_ADD_SEALS/));
    memfd.close();
  });
});

test('a failed memfd leaves nothing', () => {
  leavesNoFds(() => {
    assert.throws(() => createMemfd('x'.repeat(300), 4096), refused('EINVAL', /memfd_create/));
    assert.throws(() => createMemfd('negative', -1), refused('EINVAL', /ftruncate/));
  });
});

test('only memory files have seals', () => {
  leavesNoFds(() => {
    const eventfd = createEventfd();
    assert.equal(sealsOf(eventfd.fd), null);
    eventfd.close();
    assert.throws(() => sealsOf(1 << 30), refused('EBADF', /F_GET_SEALS/));
  });
});

test('the memory that eventfds are written from survives garbage collection', () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const fd = createEventfd();
  for (let round = 0; round < 5; round++) {
    gc();
    for (let i = 0; i < 100; i++) Buffer.from(new ArrayBuffer(8)).fill(0xff);
    signalEventfd(fd.fd);
    assert.equal(readEventfd(fd.fd), 1);
  }
  fd.close();
});
