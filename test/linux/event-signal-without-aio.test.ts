/** Simulates a machine without asynchronous I/O, such as a container that forbids it: io_setup fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { __NR_io_setup } from '../../src/abi/aio.ts';
import { ERRNO } from '../../src/abi/errno.ts';
import { EventfdSignal } from '../../src/linux/event-signal.ts';
import { createEventfd, readEventfd } from '../../src/linux/eventfd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { fillAndBlock, Rescue } from './rescue.ts';

test('signals are written, a full counter is left alone, and the kernel is asked once', async (t) => {
  let asked = 0;
  const { syscall } = sys;
  t.mock.method(sys, 'syscall', (...[number, ...rest]: Parameters<typeof syscall>) => {
    if (number !== __NR_io_setup) return syscall(number, ...rest);
    asked++;
    return -ERRNO.ENOSYS;
  });
  const fd = createEventfd('irq');
  const signal = new EventfdSignal(fd.duplicate());
  for (let i = 0; i < 3; i++) signal.signal();
  assert.equal(readEventfd(fd.fd), 3);
  assert.equal(asked, 1);
  fillAndBlock(fd);
  const rescue = new Rescue('head -c 8 <&3 >/dev/null', fd.fd);
  signal.signal();
  assert.ok(!rescue.came, 'the signal waited for the peer');
  await rescue.end();
  signal.release();
  fd.close();
});
