/**
 * Rare events in shared memory, each as JSON. The writer never waits: where the ring is full it drops the event, and
 * the reader learns how many were dropped.
 */
const BYTES = 1 << 20;
const HEADER_BYTES = 16;

/** Words of the header; positions count bytes without end, modulo 2^32. */
const WRITTEN = 0;
const READ = 1;
const DROPPED = 2;

export class EventRing<E> {
  readonly memory: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly size: number;

  /** `bytes` is a power of two. */
  constructor(memory: SharedArrayBuffer | null = null, bytes = BYTES) {
    this.memory = memory ?? new SharedArrayBuffer(HEADER_BYTES + bytes);
    this.words = new Int32Array(this.memory, 0, 4);
    this.bytes = new Uint8Array(this.memory, HEADER_BYTES);
    this.size = this.bytes.length;
  }

  /** Called by the writer. False where the event was dropped. */
  push(event: E): boolean {
    const { words, size } = this;
    const json = Buffer.from(JSON.stringify(event));
    const written = words[WRITTEN] >>> 0;
    const used = (written - Atomics.load(words, READ)) >>> 0;
    if (used + 4 + json.length > size) {
      Atomics.add(words, DROPPED, 1);
      return false;
    }
    const record = Buffer.allocUnsafe(4 + json.length);
    record.writeUInt32LE(json.length);
    json.copy(record, 4);
    const at = written % size;
    const first = Math.min(record.length, size - at);
    this.bytes.set(record.subarray(0, first), at);
    this.bytes.set(record.subarray(first), 0);
    Atomics.store(words, WRITTEN, (written + record.length) | 0);
    return true;
  }

  /** Called by the reader: takes all events, oldest first, and how many were dropped since the last call. */
  take(): { events: E[]; dropped: number } {
    const { words } = this;
    const end = Atomics.load(words, WRITTEN) >>> 0;
    const events: E[] = [];
    let at = words[READ] >>> 0;
    while (at !== end) {
      const length = this.copy(at, 4).readUInt32LE();
      events.push(JSON.parse(this.copy(at + 4, length).toString()) as E);
      at = (at + 4 + length) >>> 0;
    }
    Atomics.store(words, READ, at | 0);
    return { events, dropped: Atomics.exchange(words, DROPPED, 0) };
  }

  private copy(position: number, length: number): Buffer {
    const { size, bytes } = this;
    const at = position % size;
    const first = Math.min(length, size - at);
    return Buffer.concat([bytes.subarray(at, at + first), bytes.subarray(0, length - first)]);
  }
}
