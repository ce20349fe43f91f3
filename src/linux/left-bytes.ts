import { ERRNO, Errno } from '../abi/errno.ts';
import { MSG_DONTWAIT, SO_PEEK_OFF, SOL_SOCKET } from '../abi/socket.ts';
import type { OwnedFd } from './fd.ts';
import { Pinned, pinnedBytes, sys } from './ffi.ts';

/** So many reads leave what they read, or so many bytes; then all of it is taken out by one more call. */
const MOST_READS = 16;
const MOST_BYTES = 32 * 1024;

const scratch = new Pinned(MOST_BYTES);

/**
 * Bytes of a stream socket that were read (MSG_PEEK, from SO_PEEK_OFF on) and still lie in it.
 *
 * A peer that waits for an answer sleeps on its own socket. Linux wakes whoever sleeps there as soon as what it
 * sent is taken out of ours, because it could now send more (unix_write_space); it finds nothing, and sleeps
 * again. So taking each message out at once costs two switches of tasks and a wake for nothing, a fifth of a round
 * trip on one CPU; taking sixteen out together costs that once.
 *
 * A peer that sends more than its buffer holds needs the room: leave whole messages of peers that wait for the
 * reply, and call `takeOut` when nothing comes for a while and before the socket is closed. Never wait in a read
 * while something is left: before Linux 6.18 such a read forgets the offset when it wakes, and brings what was read
 * before (7bf3a476ce43, "af_unix: Read sk_peek_offset() again after sleeping in unix_stream_read_generic()").
 */
export class LeftBytes {
  readonly #socket: OwnedFd;
  readonly #works: boolean;
  #reads = 0;
  #bytes = 0;

  /** From now on every read of `socket` with MSG_PEEK goes on where the last one ended. */
  constructor(socket: OwnedFd) {
    this.#socket = socket;
    this.#works = sys.setsockopt(socket.fd, SOL_SOCKET, SO_PEEK_OFF, pinnedBytes(4), 4) === 0;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /** Before a read: takes out what was left when that is enough. Returns whether the read may leave its bytes. */
  prepare(): boolean {
    if (this.#reads >= MOST_READS || this.#bytes >= MOST_BYTES) this.takeOut();
    return this.#works;
  }

  /** A read with MSG_PEEK brought so many bytes. */
  add(bytes: number): void {
    this.#reads += 1;
    this.#bytes += bytes;
  }

  /** Throws Errno when the socket does not give back what it showed. */
  takeOut(): void {
    let mayFail = true;
    while (this.#bytes > 0) {
      const most = Math.min(this.#bytes, MOST_BYTES);
      const taken = sys.recv(this.#socket.fd, scratch.address, most, MSG_DONTWAIT);
      if (taken > 0) this.#bytes -= taken;
      // A peer that left with bytes unread is reported once, ahead of the bytes that it sent.
      else if (taken === -ERRNO.ECONNRESET && mayFail) mayFail = false;
      else if (taken !== -ERRNO.EINTR) throw Errno.fromCode(taken === 0 ? ERRNO.EPIPE : -taken, this.#socket.what);
    }
    this.#reads = 0;
  }
}
