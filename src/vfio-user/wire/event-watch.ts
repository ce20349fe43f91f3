/** Eventfds that a client signals and the server's loop watches. */
import { EPOLLIN } from '../../abi/poll.ts';
import { readEventfd } from '../../linux/eventfd.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import type { EventSource } from '../../vfio/user.ts';
import type { EventLoop } from './event-loop.ts';

/** Calls `onSignal` after signals, once for several that came together. The client may have read them itself. */
export class EventWatch implements EventSource {
  private readonly loop: EventLoop;
  private readonly fd: OwnedFd;
  private readonly key: number;

  /** Takes ownership of `fd`, an eventfd, also when it throws. */
  constructor(loop: EventLoop, fd: OwnedFd, onSignal: () => void) {
    this.loop = loop;
    this.fd = fd;
    try {
      this.key = loop.add(fd.fd, EPOLLIN, () => {
        if (readEventfd(fd.fd) > 0) onSignal();
      });
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  release(): void {
    this.loop.remove(this.key);
    this.fd.close();
  }
}
