import { Errno } from '../abi/errno.ts';
import { F_GETFL, F_SETFL, O_NONBLOCK } from '../abi/fcntl.ts';
import { POLLOUT } from '../abi/poll.ts';
import type { EventSignal } from '../vfio/user.ts';
import { signalEventfd } from './eventfd.ts';
import type { OwnedFd } from './fd.ts';
import { check, sys } from './ffi.ts';
import { isEventfd } from './foreign-fd.ts';
import { signalByKernel } from './kernel-signal.ts';
import { PollSet } from './poll.ts';

/**
 * An eventfd of a peer. The peer may fill its counter up and make its file blocking at any moment. The kernel therefore
 * signals it, which never waits. Where the kernel cannot (kernel-signal.ts), each signal looks first for room. A peer
 * that fills the counter in the microsecond between look and write then blocks this thread until it reads.
 */
export class EventfdSignal implements EventSignal {
  readonly #fd: OwnedFd;
  readonly #room = new PollSet(1);

  /** Takes ownership of `fd`, also when it throws. EINVAL for a descriptor that is not an eventfd. */
  constructor(fd: OwnedFd) {
    this.#fd = checkedEventfd(fd);
    this.#room.set(0, fd.fd, POLLOUT);
  }

  signal(): void {
    const { fd } = this.#fd;
    if (signalByKernel(fd)) return;
    if (this.#room.wait(0) === 1) signalEventfd(fd);
  }

  release(): void {
    this.#fd.close();
  }
}

/**
 * Makes the descriptor non-blocking. Takes ownership, also when it throws EINVAL for a descriptor that is not an
 * eventfd.
 */
export function checkedEventfd(fd: OwnedFd): OwnedFd {
  try {
    if (!isEventfd(fd.fd)) throw new Errno('EINVAL', `${fd.what} is not an eventfd`);
    const flags = check(sys.fcntl(fd.fd, F_GETFL, 0), () => `fcntl(F_GETFL) of ${fd.what}`);
    check(sys.fcntl(fd.fd, F_SETFL, flags | O_NONBLOCK), () => `fcntl(F_SETFL) of ${fd.what}`);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}
