/** Eventfds that a client signals, heard by the server's loop. */
import { EPOLLIN, POLLIN } from '../abi/poll.ts';
import { readEventfd } from '../linux/eventfd.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { pollOne } from '../linux/poll.ts';
import type { EventSource } from '../vfio/user.ts';
import type { EventLoop } from './loop.ts';

/**
 * Calls `onSignal` after signals, once for those that came together. The client has the same file and may have made it blocking
 * or read it empty: it is looked at before it is read, as EventfdSignal looks before it writes.
 */
export class EventWatch implements EventSource {
  private readonly loop: EventLoop;
  private readonly fd: OwnedFd;
  private readonly key: number;

  /** Takes ownership of `fd`, an eventfd. */
  constructor(loop: EventLoop, fd: OwnedFd, onSignal: () => void) {
    this.loop = loop;
    this.fd = fd;
    this.key = loop.add(fd.fd, EPOLLIN, () => {
      if ((pollOne(fd.fd, POLLIN, 0) & POLLIN) === 0) return;
      if (readEventfd(fd.fd) > 0) onSignal();
    });
  }

  release(): void {
    this.loop.remove(this.key);
    this.fd.close();
  }
}
