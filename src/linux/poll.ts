import { performance } from 'node:perf_hooks';
import { ERRNO, Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, epoll_event, pollfd } from '../abi/poll.ts';
import { OwnedFd } from './fd.ts';
import { addressOf, check, epollWaitAsync, pinnedBytes, sys } from './ffi.ts';

/** Calls `wait` with the rest of `timeoutMs` (-1 without limit) until no signal interrupts it. */
function withDeadline(timeoutMs: number, wait: (leftMs: number) => number): number {
  // Only a wait with a limit has a deadline.
  const deadline = timeoutMs > 0 ? performance.now() + timeoutMs : 0;
  let result = wait(timeoutMs);
  while (result === -ERRNO.EINTR) {
    result = wait(timeoutMs <= 0 ? timeoutMs : Math.max(0, Math.ceil(deadline - performance.now())));
  }
  return result;
}

/** A fixed set of descriptors to wait for (poll(2)), without an allocation for each wait. */
export class PollSet {
  readonly #count: number;
  readonly #view: DataView;
  readonly #address: number;
  /** Keeps the memory at #address alive. */
  readonly #memory: Buffer;

  constructor(count: number) {
    this.#count = count;
    this.#memory = pinnedBytes(count * pollfd.sizeof);
    this.#view = viewOf(this.#memory);
    this.#address = addressOf(this.#memory);
    for (let i = 0; i < count; i++) this.set(i, -1, 0);
  }

  /** Makes entry `index` wait for `events` (POLLIN, ...) of `fd`; a negative fd is left out. */
  set(index: number, fd: number, events: number): void {
    if (index >= this.#count) throw new Errno('EINVAL', `entry ${index} of a poll set of ${this.#count}`);
    pollfd.write(this.#view, index * pollfd.sizeof, { fd, events, revents: 0 });
  }

  /**
   * Waits until one is ready; returns the number of ready ones, 0 after `timeoutMs` (-1 waits for ever, 0 only looks).
   */
  wait(timeoutMs: number): number {
    const result = withDeadline(timeoutMs, (leftMs) => sys.poll(this.#address, this.#count, leftMs));
    return check(result, () => `poll of ${this.#memory.length / pollfd.sizeof} descriptors`);
  }

  /** Returns the ready events of entry `index` after wait: POLLIN, POLLHUP, POLLERR, POLLNVAL, ... */
  revents(index: number): number {
    return pollfd.fields.revents.get(this.#view, index * pollfd.sizeof);
  }
}

/** Returns the events of one descriptor that are ready now or within `timeoutMs`; 0 for none. */
export function pollOne(fd: number, events: number, timeoutMs: number): number {
  const set = new PollSet(1);
  set.set(0, fd, events);
  return set.wait(timeoutMs) === 0 ? 0 : set.revents(0);
}

/** A changing set of descriptors to wait for (epoll(7)). Each carries a number of the caller's choice. */
export class Epoll {
  readonly #fd: OwnedFd;
  readonly #events: Buffer;
  readonly #view: DataView;
  readonly #address: number;
  readonly #maxEvents: number;
  readonly #control = pinnedBytes(epoll_event.sizeof);
  readonly #controlView = viewOf(this.#control);
  readonly #controlAddress = addressOf(this.#control);

  constructor(maxEvents = 16) {
    this.#maxEvents = maxEvents;
    this.#events = pinnedBytes(maxEvents * epoll_event.sizeof);
    this.#view = viewOf(this.#events);
    this.#address = addressOf(this.#events);
    this.#fd = new OwnedFd(
      check(sys.epoll_create1(EPOLL_CLOEXEC), () => 'epoll_create1'),
      'epoll',
    );
  }

  /** Adds `fd`. The wait that finds it ready for `events` returns `data`. */
  add(fd: number, events: number, data: number): void {
    this.#ctl(EPOLL_CTL_ADD, fd, events, data);
  }

  modify(fd: number, events: number, data: number): void {
    this.#ctl(EPOLL_CTL_MOD, fd, events, data);
  }

  /** Removes `fd`. Call it before the descriptor is closed: a duplicate elsewhere would keep it in the set. */
  remove(fd: number): void {
    this.#ctl(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** Waits; returns the number of events, which `events(i)` and `data(i)` describe, and 0 after `timeoutMs`. */
  wait(timeoutMs: number): number {
    const epfd = this.#fd.fd;
    if (timeoutMs <= 0) {
      // The server's loop comes here for each message, so that this path has no closure.
      const result = sys.epoll_wait(epfd, this.#address, this.#maxEvents, timeoutMs);
      if (result >= 0) return result;
      if (result !== -ERRNO.EINTR) throw Errno.fromCode(-result, 'epoll_wait');
    }
    const result = withDeadline(timeoutMs, (leftMs) => sys.epoll_wait(epfd, this.#address, this.#maxEvents, leftMs));
    return check(result, () => 'epoll_wait');
  }

  /**
   * As `wait`, but a thread of libuv's pool waits, and Node's event loop goes on. One call at a time; no `wait`
   * meanwhile. The thread stays busy until a descriptor is ready or the time is over, and Node does not end before.
   * A signal ends the wait early, with 0.
   */
  async waitAsync(timeoutMs: number): Promise<number> {
    return Math.max(0, await epollWaitAsync(this.#fd.fd, this.#address, this.#maxEvents, timeoutMs));
  }

  events(index: number): number {
    return epoll_event.fields.events.get(this.#view, index * epoll_event.sizeof);
  }

  data(index: number): number {
    return epoll_event.fields.data.get(this.#view, index * epoll_event.sizeof);
  }

  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #ctl(operation: number, fd: number, events: number, data: number): void {
    epoll_event.fields.events.set(this.#controlView, 0, events);
    epoll_event.fields.data.set(this.#controlView, 0, data);
    const result = sys.epoll_ctl(this.#fd.fd, operation, fd, this.#controlAddress);
    check(result, () => `epoll_ctl(${operation}, fd ${fd})`);
  }
}
