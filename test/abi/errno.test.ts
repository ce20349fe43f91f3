import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { check } from '../../src/linux/ffi.ts';

test('an Errno has the fields of a system error of Node', () => {
  const error = new Errno('ENODEV', 'the buffer is revoked');
  assert.equal(error.code, 'ENODEV');
  assert.equal(error.errno, -19);
  assert.equal('syscall' in error, false);
  assert.equal(error.message, 'ENODEV: the buffer is revoked');
});

test('a number of the outside world becomes its name; one that is not known is EIO and says the number', () => {
  assert.equal(Errno.fromCode(22, 'ioctl').code, 'EINVAL');
  assert.deepEqual(
    [Errno.fromCode(999, 'read').code, Errno.fromCode(999, 'read').message],
    ['EIO', 'EIO: read (errno 999)'],
  );
});

test('a system call that fails says which it was', () => {
  const calls: [string, string | undefined][] = [
    ['close(3) of a socket', 'close'],
    ['munmap of memory', 'munmap'],
    ['eventfd', 'eventfd'],
    ['DMA_BUF_SET_NAME(x) of a buffer', 'ioctl'],
    ['an unknown ioctl of a buffer', undefined],
  ];
  for (const [what, syscall] of calls) {
    assert.throws(
      () => check(-9, () => what),
      (error: Errno) => error.code === 'EBADF' && error.syscall === syscall,
    );
  }
});
