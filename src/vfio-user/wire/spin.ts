/** Polls again and again for a moment, since a peer on another CPU mostly answers at once. */
import { availableParallelism } from 'node:os';

/** A peer on another CPU answers within this time or not soon. Sleeping and being woken costs as much. */
const SPIN_MS = 0.05;
/** After a useless spin, this many waits at most sleep at once before the next spin; the number doubles each time. */
const MAX_WAITS_WITHOUT_SPIN = 512;
/** On one CPU, a spin keeps the peer from running. */
const HAS_OTHER_CPU = availableParallelism() > 1;

export class Spin {
  private waitsUntilSpin = 0;
  private penalty = 1;

  /** Returns the first value of `look` other than 0, or 0 when it is time to sleep. */
  until(look: () => number): number {
    if (!HAS_OTHER_CPU) return 0;
    if (this.waitsUntilSpin > 0) {
      this.waitsUntilSpin -= 1;
      return 0;
    }
    // A value that was there already says nothing about the use of spinning.
    const ready = look();
    if (ready !== 0) return ready;
    for (const end = performance.now() + SPIN_MS; performance.now() < end; ) {
      const found = look();
      if (found !== 0) {
        this.penalty = Math.max(1, this.penalty >> 1);
        return found;
      }
    }
    this.waitsUntilSpin = this.penalty;
    this.penalty = Math.min(2 * this.penalty, MAX_WAITS_WITHOUT_SPIN);
    return 0;
  }
}
