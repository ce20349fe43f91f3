/**
 * The newest messages with their replies, in shared memory. The serving thread writes while somebody watches and room
 * is left; it counts what it leaves out and never waits.
 */

/** Messages that fit between two looks of the reader. */
const SLOTS = 256;
const REQUEST_HEAD_BYTES = 40;
const REPLY_HEAD_BYTES = 32;
const SLOT_BYTES = 120;
const HEADER_BYTES = 16;

/** Words of the header. */
const WATCHED = 0;
const WRITTEN = 1;
const READ = 2;
const DROPPED = 3;

/** A message and its reply, as they were on the wire, cut short. */
export interface SeenExchange {
  /** When the message came, in milliseconds since the epoch. */
  readonly atMs: number;
  readonly latencyUs: number;
  readonly device: number;
  readonly command: number;
  /** 0 where it succeeded. */
  readonly errno: number;
  readonly requestBytes: number;
  readonly replyBytes: number;
  readonly requestFds: number;
  readonly replyFds: number;
  /** The first bytes of the payloads. */
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
}

/** Payloads in larger buffers. */
export interface Payloads {
  readonly request: Uint8Array;
  readonly requestAt: number;
  readonly reply: Uint8Array;
  readonly replyAt: number;
}

export class MessageRing {
  readonly memory: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly view: DataView;
  private readonly bytes: Uint8Array;

  constructor(memory = new SharedArrayBuffer(HEADER_BYTES + SLOTS * SLOT_BYTES)) {
    this.memory = memory;
    this.words = new Int32Array(memory, 0, 4);
    this.view = new DataView(memory);
    this.bytes = new Uint8Array(memory);
  }

  /** Whether somebody watches. The writer looks at it for each message, so it is a plain read. */
  get isWatched(): boolean {
    return this.words[WATCHED] !== 0;
  }

  /** Called by the reader. */
  watch(on: boolean): void {
    Atomics.store(this.words, WATCHED, on ? 1 : 0);
  }

  /** Called by the writer before `push`. False where the reader is behind; the message counts as dropped. */
  hasRoom(): boolean {
    const { words } = this;
    if (((words[WRITTEN] - Atomics.load(words, READ)) | 0) < SLOTS) return true;
    Atomics.add(words, DROPPED, 1);
    return false;
  }

  /** Called by the writer, after `hasRoom` said yes. */
  push(exchange: Omit<SeenExchange, 'request' | 'reply'>, payloads: Payloads): void {
    const { words, view, bytes } = this;
    const written = words[WRITTEN];
    const at = HEADER_BYTES + (written & (SLOTS - 1)) * SLOT_BYTES;
    view.setFloat64(at, exchange.atMs);
    view.setFloat64(at + 8, exchange.latencyUs);
    view.setUint16(at + 16, exchange.device);
    view.setUint16(at + 18, exchange.command);
    view.setUint16(at + 20, exchange.errno);
    view.setUint8(at + 22, exchange.requestFds);
    view.setUint8(at + 23, exchange.replyFds);
    view.setUint32(at + 24, exchange.requestBytes);
    view.setUint32(at + 28, exchange.replyBytes);
    const { request, requestAt, reply, replyAt } = payloads;
    copyHead(bytes, at + 48, request, requestAt, Math.min(exchange.requestBytes, REQUEST_HEAD_BYTES));
    copyHead(bytes, at + 48 + REQUEST_HEAD_BYTES, reply, replyAt, Math.min(exchange.replyBytes, REPLY_HEAD_BYTES));
    Atomics.store(words, WRITTEN, (written + 1) | 0);
  }

  /** Called by the reader: takes all messages, oldest first, and how many were dropped since the last call. */
  take(): { exchanges: SeenExchange[]; dropped: number } {
    const { words } = this;
    const written = Atomics.load(words, WRITTEN);
    const exchanges: SeenExchange[] = [];
    for (let next = words[READ]; next !== written; next = (next + 1) | 0) {
      exchanges.push(this.read(HEADER_BYTES + (next & (SLOTS - 1)) * SLOT_BYTES));
    }
    Atomics.store(words, READ, written);
    return { exchanges, dropped: Atomics.exchange(words, DROPPED, 0) >>> 0 };
  }

  private read(at: number): SeenExchange {
    const { view, bytes } = this;
    const requestBytes = view.getUint32(at + 24);
    const replyBytes = view.getUint32(at + 28);
    const requestAt = at + 48;
    const replyAt = requestAt + REQUEST_HEAD_BYTES;
    return {
      atMs: view.getFloat64(at),
      latencyUs: view.getFloat64(at + 8),
      device: view.getUint16(at + 16),
      command: view.getUint16(at + 18),
      errno: view.getUint16(at + 20),
      requestFds: view.getUint8(at + 22),
      replyFds: view.getUint8(at + 23),
      requestBytes,
      replyBytes,
      // slice() of shared memory would be shared too.
      request: Uint8Array.from(bytes.subarray(requestAt, requestAt + Math.min(requestBytes, REQUEST_HEAD_BYTES))),
      reply: Uint8Array.from(bytes.subarray(replyAt, replyAt + Math.min(replyBytes, REPLY_HEAD_BYTES))),
    };
  }
}

/** A loop: for so few bytes it is cheaper than a view and a call. */
function copyHead(into: Uint8Array, at: number, from: Uint8Array, start: number, length: number): void {
  for (let i = 0; i < length; i++) into[at + i] = from[start + i];
}
