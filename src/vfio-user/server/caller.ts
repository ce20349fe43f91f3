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
  const sent = (i: number): OwnedFd => {
    const fd = frame.fds[i];
    if (fd === undefined) throw new Errno('EBADF', `descriptor ${i} did not come with the message`);
    return fd;
  };
  return {
    files,
    *buffer(i) {
      const dmabuf = exports.find(sent(i));
      if (dmabuf === null) throw new Errno('EINVAL', `descriptor ${i} is not a dma-buf of this server`);
      yield* dmabuf.get();
      return dmabuf;
    },
    eventSignal: (i) => new EventfdSignal(sent(i).duplicate()),
    eventSource: (i, onSignal) => {
      const fd = checkedEventfd(sent(i).duplicate());
      return new EventWatch(loop, fd, () => runner.start('eventfd of a client', onSignal()));
    },
  };
}
