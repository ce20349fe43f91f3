/** The client as a caller of the engine. */
import { Errno } from '../../abi/errno.ts';
import { checkedEventfd, EventfdSignal } from '../../linux/event-signal.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { runner } from '../../task/runner.ts';
import type { Caller } from '../../vfio/user.ts';
import { EventWatch } from '../wire/event-watch.ts';
import type { Frame } from '../wire/frame.ts';
import type { RequestContext } from './request-context.ts';

/** Descriptors in the request's argument are indexes into those of the message. */
export function callerOf({ files, loop, exports }: RequestContext, frame: Frame): Caller {
  const descriptor = (i: number): OwnedFd => {
    const fd = frame.fds[i];
    if (fd === undefined) throw new Errno('EBADF', `descriptor ${i} did not come with the message`);
    return fd.duplicate();
  };
  return {
    files,
    *buffer(i) {
      const fd = frame.fds[i];
      if (fd === undefined) throw new Errno('EBADF', `descriptor ${i} did not come with the message`);
      const dmabuf = exports.find(fd);
      if (dmabuf === null) throw new Errno('EINVAL', `descriptor ${i} is not a dma-buf of this server`);
      yield* dmabuf.get();
      return dmabuf;
    },
    eventSignal: (i) => new EventfdSignal(descriptor(i)),
    eventSource: (i, onSignal) => {
      const fd = checkedEventfd(descriptor(i));
      return new EventWatch(loop, fd, () => runner.start('eventfd of a client', onSignal()));
    },
  };
}
