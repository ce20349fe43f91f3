/** One thread that waits for descriptors and deadlines, and lets tasks run after each. */
import { EPOLLERR, EPOLLHUP } from '../../abi/poll.ts';
import { Epoll } from '../../linux/poll.ts';
import { runner } from '../../task/runner.ts';
import { type Deadline, Deadlines } from './deadlines.ts';
import { Spin } from './spin.ts';

/** It is quiet when nothing came for this time; after this many rounds it counts as quiet all the same. */
const QUIET_MS = 5;
const MAX_ROUNDS_TO_QUIET = 256;

/** What is ready, as EPOLL bits. Runs outside of any task and must not throw for what a peer did. */
export type Handler = (events: number) => void;

interface Registered {
  readonly fd: number;
  readonly run: Handler;
}

/**
 * Blocks in epoll_wait; everything that it calls runs on its thread, one at a time, so that there is nothing to lock
 * between connections. Ends when `stop` is called from a handler.
 */
export class EventLoop {
  private readonly epoll = new Epoll(64);
  private readonly handlers = new Map<number, Registered>();
  private readonly deadlines = new Deadlines();
  private readonly spin = new Spin();
  private readonly look = () => this.epoll.wait(0);
  private nextKey = 1;
  private stopping = false;
  private quiet: (() => void)[] = [];
  private roundsToQuiet = 0;

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
    return this.deadlines.add(performance.now() + afterMs, run);
  }

  cancel(deadline: Deadline): void {
    this.deadlines.remove(deadline);
  }

  /** Calls `run` once, as soon as nothing came for a moment, and soon even where something always comes. */
  whenQuiet(run: () => void): void {
    if (this.quiet.length === 0) this.roundsToQuiet = MAX_ROUNDS_TO_QUIET;
    this.quiet.push(run);
  }

  run(): void {
    while (!this.stopping) this.turn(-1);
    runner.drain();
    this.close();
  }

  /** Frees the loop after the last `turn`; `run` does so itself. */
  close(): void {
    this.epoll.close();
  }

  /**
   * One round: tasks, then what is ready, for which it waits at most `mostMs` (-1: for as long as it takes). Returns
   * whether there was anything to do.
   */
  turn(mostMs: number): boolean {
    const more = runner.drainRound();
    const count = more ? this.epoll.wait(0) : this.wait(mostMs);
    for (let i = 0; i < count; i++) {
      // An earlier event of this round may have removed the handler.
      this.handlers.get(this.epoll.data(i))?.run(this.epoll.events(i));
    }
    if (this.quiet.length > 0 && ((count === 0 && !more) || --this.roundsToQuiet === 0)) this.runQuiet();
    this.runDeadlines();
    return more || count > 0;
  }

  stop(): void {
    this.stopping = true;
  }

  private wait(mostMs: number): number {
    const waitMs = earlier(earlier(mostMs, this.nextDeadlineMs()), this.quiet.length === 0 ? -1 : QUIET_MS);
    if (waitMs === 0) return this.epoll.wait(0);
    return this.spin.until(this.look) || this.epoll.wait(waitMs);
  }

  private runQuiet(): void {
    const waiting = this.quiet;
    this.quiet = [];
    for (const run of waiting) run();
  }

  private nextDeadlineMs(): number {
    const { first } = this.deadlines;
    return first === undefined ? -1 : Math.max(0, Math.ceil(first.atMs - performance.now()));
  }

  private runDeadlines(): void {
    if (this.deadlines.first === undefined) return;
    const now = performance.now();
    for (let next = this.deadlines.first; next !== undefined && next.atMs <= now; next = this.deadlines.first) {
      this.deadlines.remove(next);
      next.run();
    }
  }
}

/** The shorter of two waits, where -1 is without end. */
function earlier(a: number, b: number): number {
  if (a < 0 || b < 0) return Math.max(a, b);
  return Math.min(a, b);
}

/** The peer is gone: nothing that is sent arrives. */
export function hungUp(events: number): boolean {
  return (events & (EPOLLHUP | EPOLLERR)) !== 0;
}
