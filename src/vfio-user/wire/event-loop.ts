/** One thread that waits for descriptors and deadlines, and lets tasks run after each. */
import { EPOLLERR, EPOLLHUP } from '../../abi/poll.ts';
import { Epoll } from '../../linux/poll.ts';
import { runner } from '../../task/runner.ts';
import { type Deadline, Deadlines } from './deadlines.ts';
import { Spin } from './spin.ts';

/** The loop is quiet after this time without events. After this many rounds it counts as quiet all the same. */
const QUIET_MS = 5;
const MAX_ROUNDS_TO_QUIET = 256;

/** How long the deadlines of one round may take together. */
const MAX_DEADLINES_MS = 10;
/** How long the handlers of one round that may wait take together: importers of all lent buffers. */
const PATIENT_ROUND_MS = 50;
/** The events of one round. Above the number of sessions of importers, so that they keep no client waiting for it. */
const MAX_EVENTS = 1024;

/** Takes the ready events as EPOLL bits. Runs outside of any task. It must not throw because of a peer. */
export type Handler = (events: number) => void;

interface Registered {
  readonly fd: number;
  readonly run: Handler;
  readonly mayWait: boolean;
}

/**
 * Blocks in epoll_wait and calls handlers on its own thread, one at a time, so connections need no locks. Ends when a
 * handler calls `stop`.
 */
export class EventLoop {
  private readonly epoll = new Epoll(MAX_EVENTS);
  private readonly handlers = new Map<number, Registered>();
  private readonly deadlines = new Deadlines();
  private readonly spin = new Spin();
  private readonly look = () => this.epoll.wait(0);
  /** Counts the rounds, so that the owner of a handler can tell one round from the next. */
  round = 0;
  private nextKey = 1;
  private stopping = false;
  private quiet: (() => void)[] = [];
  private roundsToQuiet = 0;
  /** The events of this round that may wait, as indices; and the key of the first one that the last round left. */
  private readonly patient: number[] = [];
  private firstLeft = 0;

  /** Calls `run` while `fd` is ready for `events`; returns the key for `modify` and `remove`. */
  add(fd: number, events: number, run: Handler): number {
    return this.register(events, { fd, run, mayWait: false });
  }

  /** As `add`, for peers of which there may be hundreds: all such handlers share PATIENT_ROUND_MS of a round. */
  addPatient(fd: number, events: number, run: Handler): number {
    return this.register(events, { fd, run, mayWait: true });
  }

  modify(key: number, events: number): void {
    const handler = this.handlers.get(key);
    if (handler !== undefined) this.epoll.modify(handler.fd, events, key);
  }

  /** Removes a handler. Call it before the descriptor is closed. */
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

  /** Calls `run` once, as soon as no event came for a moment, or after some rounds if events never stop. */
  whenQuiet(run: () => void): void {
    if (this.quiet.length === 0) this.roundsToQuiet = MAX_ROUNDS_TO_QUIET;
    this.quiet.push(run);
  }

  run(): void {
    while (!this.stopping) this.turn(-1);
    runner.drain();
    this.close();
  }

  /** Frees the loop after the last `turn`. `run` frees it itself. */
  close(): void {
    this.epoll.close();
  }

  /**
   * Runs one round: tasks, then ready handlers. Waits for events at most `mostMs` (-1: without end). Returns whether
   * there was anything to do.
   */
  turn(mostMs: number): boolean {
    this.round += 1;
    const more = runner.drainRound();
    const count = more ? this.epoll.wait(0) : this.wait(mostMs);
    for (let i = 0; i < count; i++) {
      // An earlier event of this round may have removed the handler.
      const handler = this.handlers.get(this.epoll.data(i));
      if (handler?.mayWait === true) this.patient.push(i);
      else handler?.run(this.epoll.events(i));
    }
    if (this.patient.length > 0) this.runPatient();
    if (this.quiet.length > 0 && ((count === 0 && !more) || --this.roundsToQuiet === 0)) this.runQuiet();
    this.runDeadlines();
    return more || count > 0;
  }

  stop(): void {
    this.stopping = true;
  }

  private register(events: number, handler: Registered): number {
    const key = this.nextKey++;
    this.epoll.add(handler.fd, events, key);
    this.handlers.set(key, handler);
    return key;
  }

  /** Begins where the last round ended. The kernel reports the events that are left again. */
  private runPatient(): void {
    const indices = this.patient.splice(0);
    const first = Math.max(
      0,
      indices.findIndex((i) => this.epoll.data(i) === this.firstLeft),
    );
    this.firstLeft = 0;
    const endMs = performance.now() + PATIENT_ROUND_MS;
    for (const i of [...indices.slice(first), ...indices.slice(0, first)]) {
      if (performance.now() > endMs) {
        this.firstLeft = this.epoll.data(i);
        return;
      }
      this.handlers.get(this.epoll.data(i))?.run(this.epoll.events(i));
    }
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
      // Many may end at once. The others follow in the next round, after the events that came meanwhile.
      if (performance.now() - now > MAX_DEADLINES_MS) return;
    }
  }
}

/** The shorter of two waits, where -1 is without end. */
function earlier(a: number, b: number): number {
  if (a < 0 || b < 0) return Math.max(a, b);
  return Math.min(a, b);
}

/** Whether the peer is gone; then no message reaches it. */
export function hungUp(events: number): boolean {
  return (events & (EPOLLHUP | EPOLLERR)) !== 0;
}
