const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Waits without the event loop. */
export function pause(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}
