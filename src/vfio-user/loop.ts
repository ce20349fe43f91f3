/** One thread that waits for descriptors and deadlines, and lets tasks run after each. */
import { EPOLLERR, EPOLLHUP } from '../abi/poll.ts';
import { Epoll } from '../linux/poll.ts';
import { runner } from '../task/runner.ts';
import { Spin } from './spin.ts';

/** When nothing came for so long, or after so many rounds, whoever waits for quiet is called. */
const QUIET_MS = 5;
const MOST_ROUNDS_TO_QUIET = 256;
/** A descriptor that was ready so many times in a row, and no other was, is waited for alone where that is possible. */
const HOT_ROUNDS = 4;
/** So many messages of one that is waited for alone; then the loop looks at the others. */
const MESSAGES_ALONE = 16;

/** What is ready, as EPOLL bits. Runs outside of any task and must not throw for what a peer did. */
export type Handler = (events: number) => void;

/**
 * Receives from one descriptor and serves what came, without epoll_wait: a system call less for each message. Both
 * return 1 when something was served, 0 when nothing came, -1 when it takes the loop to go on.
 */
export interface Alone {
  look(): number;
  /** Waits for some milliseconds. */
  wait(): number;
}

export interface HandlerOptions {
  /** A few milliseconds more do no harm: a listening socket. */
  patient?: true;
  alone?: Alone;
}

interface Registered extends HandlerOptions {
  readonly fd: number;
  readonly run: Handler;
}

export interface Deadline {
  readonly atMs: number;
  readonly run: () => void;
}

/**
 * Blocks in epoll_wait; everything that it calls runs on its thread, one at a time, so that there is nothing to lock
 * between connections. Ends when `stop` is called from a handler.
 *
 * Where all others are patient, a connection with one message after the other is waited for alone, in its own recvmsg.
 */
export class EventLoop {
  private readonly epoll = new Epoll(64);
  private readonly handlers = new Map<number, Registered>();
  private readonly deadlines = new Set<Deadline>();
  private readonly spin = new Spin();
  private readonly look = () => this.epoll.wait(0);
  private nextKey = 1;
  private stopping = false;
  private quiet: (() => void)[] = [];
  private roundsToQuiet = 0;
  private impatient = 0;
  /** Who was ready last, and how many times in a row nobody else was. */
  private hot: Registered | null = null;
  private hotRounds = 0;

  /** Calls `run` while `fd` is ready for `events`; returns the key for `modify` and `remove`. */
  add(fd: number, events: number, run: Handler, options: HandlerOptions = {}): number {
    const key = this.nextKey++;
    this.epoll.add(fd, events, key);
    this.handlers.set(key, { ...options, fd, run });
    if (options.patient === undefined) this.impatient += 1;
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
    if (handler.patient === undefined) this.impatient -= 1;
    if (this.hot === handler) this.hot = null;
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

  /** Calls `run` once, as soon as nothing came for a moment, and soon even where something always comes. */
  whenQuiet(run: () => void): void {
    if (this.quiet.length === 0) this.roundsToQuiet = MOST_ROUNDS_TO_QUIET;
    this.quiet.push(run);
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
    const isBusy = more || (mostMs < 0 && this.serveAlone());
    const count = isBusy ? this.epoll.wait(0) : this.wait(mostMs);
    for (let i = 0; i < count; i++) {
      const handler = this.handlers.get(this.epoll.data(i));
      // An earlier event of this round may have removed the handler.
      if (handler === undefined) continue;
      this.hotRounds = handler === this.hot ? this.hotRounds + 1 : 0;
      this.hot = handler;
      handler.run(this.epoll.events(i));
    }
    if (this.quiet.length > 0 && ((count === 0 && !isBusy) || --this.roundsToQuiet === 0)) this.runQuiet();
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

  /** Serves some messages of the hot connection where nobody would notice; returns whether there may be more. */
  private serveAlone(): boolean {
    const alone = this.hot?.alone;
    if (alone === undefined || this.hotRounds < HOT_ROUNDS) return false;
    if (this.impatient !== 1 || this.deadlines.size > 0) return false;
    for (let served = 0; served < MESSAGES_ALONE; served++) {
      const outcome = this.spin.until(alone.look) || alone.wait();
      if (outcome < 0) return true;
      if (outcome === 0) {
        this.hotRounds = 0;
        return false;
      }
    }
    return true;
  }

  private runQuiet(): void {
    const waiting = this.quiet;
    this.quiet = [];
    for (const run of waiting) run();
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
