/** The server's log with a rate limit: a client that loops must not fill a disk. */

import { limitHit } from '../../vfio/limit-hits.ts';
import type { Deadline } from './deadlines.ts';
import type { EventLoop } from './event-loop.ts';
import { LIMITS } from './frame.ts';

/** How grave a line is. */
export type LogLevel = 'error' | 'warn' | 'info';

/** The subject of a line. Lines of one client and cause are limited together. */
export interface LogAbout {
  /** How grave the line is. */
  readonly level: LogLevel;
  /** The cause, in a word or two: `dropped`, `late`, `defect`, ... */
  readonly cause: string;
  /** The client: the device, and the process where it is known. */
  readonly client: string;
}

/** Called with each line of the log, without a newline. Must not wait. */
export type Log = (line: string, about: LogAbout) => void;

/**
 * Hands on LIMITS.maxLogLines of each client and cause, and LIMITS.maxLogLinesOfAll, in a window of time. At the end of
 * the window, one line for each client and cause counts the dropped ones.
 */
export class LogLimiter {
  private readonly loop: EventLoop;
  private readonly sink: Log;
  private readonly counts = new Map<string, { lines: number; readonly about: LogAbout }>();
  private lines = 0;
  private suppressed = 0;
  private window: Deadline | null = null;

  constructor(loop: EventLoop, sink: Log) {
    this.loop = loop;
    this.sink = sink;
  }

  readonly log: Log = (line, about) => {
    if (this.window === null) {
      this.window = this.loop.after(LIMITS.logWindowMs, () => this.endWindow());
    }
    if (this.lines >= LIMITS.maxLogLinesOfAll) {
      limitHit('maxLogLinesOfAll');
      this.suppressed += 1;
      return;
    }
    const key = `${about.client} ${about.cause}`;
    const count = this.counts.get(key) ?? { lines: 0, about };
    this.counts.set(key, count);
    count.lines += 1;
    if (count.lines > LIMITS.maxLogLines) {
      limitHit('maxLogLines');
      return;
    }
    this.lines += 1;
    this.sink(line, about);
  };

  /** Ends the window with the server. */
  close(): void {
    if (this.window === null) return;
    this.loop.cancel(this.window);
    this.endWindow();
  }

  private endWindow(): void {
    const seconds = LIMITS.logWindowMs / 1000;
    for (const { lines, about } of this.counts.values()) {
      const more = lines - LIMITS.maxLogLines;
      if (more > 0) this.sink(`${about.client}: ${more} more lines in ${seconds} s (${about.cause})`, about);
    }
    if (this.suppressed > 0) {
      const about = { level: 'warn', cause: 'rate', client: 'all clients' } as const;
      this.sink(`${this.suppressed} more lines in ${seconds} s, of all clients`, about);
    }
    this.counts.clear();
    this.lines = 0;
    this.suppressed = 0;
    this.window = null;
  }
}
