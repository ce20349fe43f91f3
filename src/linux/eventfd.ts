import { __NR_preadv2, RWF_NOWAIT } from '../abi/aio.ts';
import { ERRNO } from '../abi/errno.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE } from '../abi/poll.ts';
import { iovec } from '../abi/socket.ts';
import { OwnedFd } from './fd.ts';
import { check, Pinned, retry, sys } from './ffi.ts';

/** Eight bytes of 1, and eight to read into. A thread makes one call at a time, so that all eventfds share them. */
const one = new Pinned(8);
one.view.setBigUint64(0, 1n, true);
const word = new Pinned(8);
const vector = new Pinned(iovec.sizeof);
iovec.write(vector.view, 0, { iov_base: word.address, iov_len: 8 });

/** Makes an eventfd(2), a counter to wait for: non-blocking and close-on-exec. */
export function createEventfd(what = 'eventfd', initial = 0, semaphore = false): OwnedFd {
  const flags = EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0);
  return new OwnedFd(
    check(sys.eventfd(initial, flags), () => 'eventfd'),
    what,
  );
}

/**
 * Adds one. A counter that is full (2^64 - 2) does not change: its reader is woken anyway. Works on any eventfd that a
 * peer sent; for another descriptor it throws the errno of write(2).
 */
export function signalEventfd(fd: number): void {
  const result = retry(() => sys.write(fd, one.address, 8));
  if (result !== -ERRNO.EAGAIN) check(result, () => `write of eventfd ${fd}`);
}

/**
 * Takes the count and sets it to 0; 0 when nothing was signalled. Does not wait for a blocking eventfd either, except
 * on kernels before 5.8, which lack such a read.
 */
export function readEventfd(fd: number): number {
  let result = retry(() => sys.syscall(__NR_preadv2, fd, vector.address, 1, -1, -1, RWF_NOWAIT));
  if (result === -ERRNO.EOPNOTSUPP || result === -ERRNO.ENOSYS) result = retry(() => sys.read(fd, word.address, 8));
  if (result === -ERRNO.EAGAIN) return 0;
  check(result, () => `read of eventfd ${fd}`);
  return Number(word.view.getBigUint64(0, true));
}
