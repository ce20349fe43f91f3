/**
 * A time limit for a guest that is fair on a busy host: time in which the host ran other processes in QEMU's place does
 * not count.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** The shortest time between two looks. */
const LOOK_MS = 100;

/**
 * Calls `onOver` when `limitMs` have passed, without the time by which `waitedMs()` has grown. Returns a function that
 * takes the limit away.
 */
export function fairLimit(limitMs: number, waitedMs: () => number, onOver: () => void): () => void {
  const startedMs = performance.now();
  const waitedBefore = waitedMs();
  let waited = 0;
  let timer = setTimeout(look, limitMs);
  function look(): void {
    // A thread that ends takes its time with it.
    waited = Math.max(waited, waitedMs() - waitedBefore);
    const leftMs = limitMs - (performance.now() - startedMs) + waited;
    if (leftMs <= 0) onOver();
    else timer = setTimeout(look, Math.max(leftMs, LOOK_MS));
  }
  return () => clearTimeout(timer);
}

/**
 * How long the thread of a process that waited longest was ready and did not run, by `/proc/PID/task/TID/schedstat`. 0
 * for a process that has ended, and on a kernel that does not count it.
 */
export function runDelayMs(pid: number | undefined): number {
  const folder = `/proc/${pid}/task`;
  try {
    const delays = readdirSync(folder).map((thread) => delayMs(`${folder}/${thread}/schedstat`));
    return Math.max(0, ...delays);
  } catch {
    return 0;
  }
}

/** The second number is the delay in nanoseconds. */
function delayMs(path: string): number {
  try {
    return Number(readFileSync(path, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    // The thread ended.
    return 0;
  }
}
