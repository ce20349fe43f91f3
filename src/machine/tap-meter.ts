/** How far the main thread is behind the serving thread with tapped messages, in memory that both share. */
import type { TappedMessage } from '../vfio-user/wire/tap.ts';

/** Messages, and bytes of messages, on the way between the threads. Further ones are lost. */
const MAX_AHEAD = 8192;
const MAX_AHEAD_BYTES = 64 << 20;

export class TapMeter {
  /** The messages and bytes that were given and not yet taken. */
  readonly memory: Int32Array<SharedArrayBuffer>;

  constructor(memory = new Int32Array(new SharedArrayBuffer(8))) {
    this.memory = memory;
  }

  /** Counts a message on its way. False, and not counted, where too much is on its way already. */
  give({ bytes }: TappedMessage): boolean {
    const { memory } = this;
    if (Atomics.load(memory, 0) >= MAX_AHEAD || Atomics.load(memory, 1) >= MAX_AHEAD_BYTES) return false;
    Atomics.add(memory, 0, 1);
    Atomics.add(memory, 1, bytes.length);
    return true;
  }

  take({ bytes }: TappedMessage): void {
    Atomics.sub(this.memory, 0, 1);
    Atomics.sub(this.memory, 1, bytes.length);
  }
}
