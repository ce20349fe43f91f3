const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread for so many milliseconds: nothing else of it runs, events included. */
export function pause(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}
