/** Looking again and again for a moment, where the peer runs on another CPU and mostly answers at once. */
import { availableParallelism } from 'node:os';

/** A peer on another CPU answers within this time or not soon: sleeping and being woken costs as much. */
const SPIN_MS = 0.05;
/** After a spin for nothing, so many waits sleep at once before the next spin; twice as many each time. */
const MAX_WAITS_WITHOUT_SPIN = 512;
/** On one CPU, whoever spins keeps the peer from running. */
const HAS_OTHER_CPU = availableParallelism() > 1;

export class Spin {
  private waitsUntilSpin = 0;
  private penalty = 1;

  /** What `look` returns as soon as that is not 0; 0 when it is time to sleep. */
  until(look: () => number): number {
    if (!HAS_OTHER_CPU) return 0;
    if (this.waitsUntilSpin > 0) {
      this.waitsUntilSpin -= 1;
      return 0;
    }
    // What was there already says nothing about spinning.
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
