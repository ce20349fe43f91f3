/** Descriptors that Node's own event loop waits for: sockets that carry descriptors, which Node cannot read. */
import { EPOLLIN } from '../abi/poll.ts';
import { createEventfd, readEventfd, signalEventfd } from './eventfd.ts';
import type { OwnedFd } from './fd.ts';
import { Epoll } from './poll.ts';

/** An idle wait ends after this time, so that a worker thread that is terminated meanwhile ends, too. */
const MAX_WAIT_MS = 1000;
const WAKE = 0;

interface PolledFd {
  readonly fd: number;
  readonly run: (events: number) => void;
}

/**
 * One epoll(7) for all descriptors of a thread. A thread of libuv's pool waits in it, and handlers run on Node's event
 * loop. Node does not end while a descriptor is watched.
 */
class LoopPoll {
  private readonly watched = new Map<number, PolledFd>();
  private epoll: Epoll | null = null;
  private wake: OwnedFd | null = null;
  private nextKey = WAKE + 1;

  /** Calls `run` while `fd` is ready for `events` (EPOLLIN, ...); returns the key for `modify` and `remove`. */
  add(fd: number, events: number, run: (events: number) => void): number {
    this.epoll ??= this.start();
    const key = this.nextKey++;
    this.epoll.add(fd, events, key);
    this.watched.set(key, { fd, run });
    return key;
  }

  modify(key: number, events: number): void {
    const watched = this.watched.get(key);
    if (watched !== undefined) this.epoll?.modify(watched.fd, events, key);
  }

  /** Call it before the descriptor is closed. */
  remove(key: number): void {
    const watched = this.watched.get(key);
    if (watched === undefined) return;
    this.watched.delete(key);
    this.epoll?.remove(watched.fd);
    if (this.watched.size === 0) this.stopWaiting();
  }

  private start(): Epoll {
    const epoll = new Epoll(16);
    this.wake = createEventfd('wake of the event loop');
    epoll.add(this.wake.fd, EPOLLIN, WAKE);
    // process.exit waits for libuv's threads.
    process.once('exit', this.stopWaiting);
    queueMicrotask(() => void this.wait(epoll));
    return epoll;
  }

  private readonly stopWaiting = (): void => {
    if (this.wake !== null) signalEventfd(this.wake.fd);
  };

  private async wait(epoll: Epoll): Promise<void> {
    while (this.watched.size > 0) {
      const count = await epoll.waitAsync(MAX_WAIT_MS);
      for (let i = 0; i < count; i++) {
        const key = epoll.data(i);
        if (key === WAKE) readEventfd(this.wake!.fd);
        else this.watched.get(key)?.run(epoll.events(i));
      }
    }
    process.off('exit', this.stopWaiting);
    this.epoll = null;
    epoll.close();
    this.wake?.close();
    this.wake = null;
  }
}

export const loopPoll = new LoopPoll();
