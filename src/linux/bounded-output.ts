/** Output for a descriptor that may be full or without a reader: writing never waits and never throws. */
import { fstatSync } from 'node:fs';
import { ERRNO } from '../abi/errno.ts';
import { O_NONBLOCK, O_WRONLY } from '../abi/fcntl.ts';
import { POLLOUT } from '../abi/poll.ts';
import { MSG_DONTWAIT, MSG_NOSIGNAL } from '../abi/socket.ts';
import { Pinned, sys } from './ffi.ts';
import { pollOne } from './poll.ts';

/** Bytes that wait for a reader, unless the owner says otherwise; what goes beyond is dropped. */
const MAX_OUTPUT_BYTES = 1 << 20;
const RETRY_MS = 20;
/** Bytes of one write. A pipe that is ready takes this many without waiting (PIPE_BUF). */
const CHUNK_BYTES = 4096;

export interface BoundedOutputOptions {
  /** Returns the line that stands for this many lost lines. Only for owners that write lines. */
  lost?(lines: number): string;
  maxBytes?: number;
  /** Called once, when no reader can ever come. */
  onGone?(): void;
}

export class BoundedOutput {
  private readonly options: BoundedOutputOptions;
  private readonly chunk = new Pinned(CHUNK_BYTES);
  private readonly send: (length: number) => number;
  private readonly maxBytes: number;
  private readonly waiting: Buffer[] = [];
  private bytes = 0;
  /** The bytes of the first of `waiting` that are out. */
  private written = 0;
  private lostLines = 0;
  private retry: NodeJS.Timeout | null = null;
  private isGone = false;

  /** `fd` stays the caller's. */
  constructor(fd: number, options: BoundedOutputOptions) {
    this.options = options;
    this.maxBytes = options.maxBytes ?? MAX_OUTPUT_BYTES;
    this.send = writerOf(fd, this.chunk.address);
  }

  write(line: string): void {
    if (!this.writeBytes(Buffer.from(`${line}\n`))) this.lostLines += 1;
  }

  /** Returns false where the bytes are dropped, as a whole, because too many wait. */
  writeBytes(bytes: Buffer): boolean {
    if (this.isGone) return true;
    const hasRoom = this.bytes + bytes.length <= this.maxBytes;
    if (hasRoom) this.push(bytes);
    if (this.retry === null) this.flush();
    return hasRoom;
  }

  /** Writes the waiting bytes, as far as the descriptor takes them now. */
  flush(): void {
    while (this.waiting.length > 0 && !this.isGone) {
      const [first] = this.waiting;
      const part = first.subarray(this.written, this.written + CHUNK_BYTES);
      this.chunk.bytes.set(part);
      const sent = this.send(part.length);
      if (sent < 0) {
        this.onError(-sent);
        return;
      }
      this.written += sent;
      if (this.written === first.length) this.shift();
    }
  }

  private push(bytes: Buffer): void {
    this.waiting.push(bytes);
    this.bytes += bytes.length;
  }

  private shift(): void {
    this.bytes -= this.waiting.shift()!.length;
    this.written = 0;
    if (this.lostLines === 0 || this.bytes > this.maxBytes / 2) return;
    this.push(Buffer.from(`${this.options.lost?.(this.lostLines)}\n`));
    this.lostLines = 0;
  }

  private onError(error: number): void {
    if (error === ERRNO.EPIPE || error === ERRNO.ENXIO || error === ERRNO.EBADF || error === ERRNO.ECONNRESET) {
      this.isGone = true;
      this.waiting.length = 0;
      this.options.onGone?.();
      return;
    }
    // The descriptor is full (EAGAIN, ENOSPC), or has an error that may pass (EIO, EDQUOT, ...). The waiting bytes are
    // bounded.
    this.retry = setTimeout(() => {
      this.retry = null;
      this.flush();
    }, RETRY_MS);
    this.retry.unref();
  }
}

/**
 * Returns a write(2) of bytes at `address` that never waits. O_NONBLOCK belongs to the open file, which other processes
 * share. A pipe or terminal is therefore opened anew. A regular file keeps its open file, which has the offset, and
 * does not wait.
 */
function writerOf(fd: number, address: number): (length: number) => number {
  let kind: ReturnType<typeof fstatSync>;
  try {
    kind = fstatSync(fd);
  } catch {
    return () => -ERRNO.EBADF;
  }
  if (kind.isFile()) return (length) => sys.write(fd, address, length);
  if (kind.isSocket()) return (length) => sys.send(fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  const own = sys.open(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK);
  if (own >= 0) return (length) => sys.write(own, address, length);
  if (own === -ERRNO.ENXIO) return () => -ERRNO.ENXIO;
  return (length) => (pollOne(fd, POLLOUT, 0) === 0 ? -ERRNO.EAGAIN : sys.write(fd, address, length));
}
