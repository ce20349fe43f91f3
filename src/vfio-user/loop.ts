/** One thread that waits for descriptors and deadlines, and lets tasks run after each. */
import { availableParallelism } from 'node:os';
import { EPOLLERR, EPOLLHUP } from '../abi/poll.ts';
import { Epoll } from '../linux/poll.ts';
import { runner } from '../task/runner.ts';

/** A peer on another CPU answers within this time or not soon: sleeping and being woken costs as much. */
const SPIN_MS = 0.05;
/** After a spin for nothing, so many waits sleep at once before the next spin; twice as many each time. */
const MOST_WAITS_WITHOUT_SPIN = 512;
/** On one CPU, whoever spins keeps the peer from running. */
const HAS_OTHER_CPU = availableParallelism() > 1;

/** What is ready, as EPOLL bits. Runs outside of any task and must not throw for what a peer did. */
export type Handler = (events: number) => void;

export interface Deadline {
  readonly atMs: number;
  readonly run: () => void;
}

/**
 * Blocks in epoll_wait; everything that it calls runs on its thread, one at a time, so that there is nothing to lock
 * between connections. Ends when `stop` is called from a handler.
 */
export class EventLoop {
  private readonly epoll = new Epoll(64);
  private readonly handlers = new Map<number, { fd: number; run: Handler }>();
  private readonly deadlines = new Set<Deadline>();
  private nextKey = 1;
  private stopping = false;
  private waitsUntilSpin = 0;
  private spinPenalty = 1;

  /** Calls `run` while `fd` is ready for `events`; returns the key for `modify` and `remove`. */
  add(fd: number, events: number, run: Handler): number {
    const key = this.nextKey++;
    this.epoll.add(fd, events, key);
    this.handlers.set(key, { fd, run });
    return key;
  }

  modify(key: number, events: number): void {
    const handler = this.handlers.get(key);
    if (handler !== undefined) this.epoll.modify(handler.fd, events, key);
  }

  /** Before the descriptor is closed. */
  remove(key: number): void {
    const handler = this.handlers.get(key);
    if (handler === undefined) return;
    this.handlers.delete(key);
    this.epoll.remove(handler.fd);
  }

  /** Calls `run` once, `afterMs` from now, unless it is cancelled before. */
  after(afterMs: number, run: () => void): Deadline {
    const deadline = { atMs: performance.now() + afterMs, run };
    this.deadlines.add(deadline);
    return deadline;
  }

  cancel(deadline: Deadline): void {
    this.deadlines.delete(deadline);
  }

  run(): void {
    while (!this.stopping) this.turn(-1);
    runner.drain();
    this.close();
  }

  /** For those who take turns themselves, and are done. */
  close(): void {
    this.epoll.close();
  }

  /**
   * One round: tasks, then what is ready, for which it waits at most `mostMs` (-1: for as long as it takes). Returns
   * whether there was anything to do.
   */
  turn(mostMs: number): boolean {
    const more = runner.drainRound();
    const waitMs = more ? 0 : earlier(mostMs, this.nextDeadlineMs());
    const count = waitMs === 0 || !HAS_OTHER_CPU ? this.epoll.wait(waitMs) : this.spinThenWait(waitMs);
    for (let i = 0; i < count; i++) {
      // An earlier event of this round may have removed the handler.
      this.handlers.get(this.epoll.data(i))?.run(this.epoll.events(i));
    }
    this.runDeadlines();
    return more || count > 0;
  }

  stop(): void {
    this.stopping = true;
  }

  /** Looks for a moment whether a peer answers at once, where peers did so lately; then sleeps. */
  private spinThenWait(waitMs: number): number {
    if (this.waitsUntilSpin > 0) {
      this.waitsUntilSpin -= 1;
      return this.epoll.wait(waitMs);
    }
    const end = performance.now() + SPIN_MS;
    do {
      const count = this.epoll.wait(0);
      if (count > 0) {
        this.spinPenalty = 1;
        return count;
      }
    } while (performance.now() < end);
    this.waitsUntilSpin = this.spinPenalty;
    this.spinPenalty = Math.min(2 * this.spinPenalty, MOST_WAITS_WITHOUT_SPIN);
    return this.epoll.wait(waitMs);
  }

  private nextDeadlineMs(): number {
    if (this.deadlines.size === 0) return -1;
    let next = Number.POSITIVE_INFINITY;
    for (const deadline of this.deadlines) next = Math.min(next, deadline.atMs);
    return Math.max(0, Math.ceil(next - performance.now()));
  }

  private runDeadlines(): void {
    if (this.deadlines.size === 0) return;
    const now = performance.now();
    for (const deadline of [...this.deadlines]) {
      if (deadline.atMs > now || !this.deadlines.delete(deadline)) continue;
      deadline.run();
    }
  }
}

/** The shorter of two waits, where -1 is without end. */
function earlier(a: number, b: number): number {
  if (a < 0 || b < 0) return Math.max(a, b);
  return Math.min(a, b);
}

/** The peer is gone: nothing that we send arrives. */
export function hungUp(events: number): boolean {
  return (events & (EPOLLHUP | EPOLLERR)) !== 0;
}
