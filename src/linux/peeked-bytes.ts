import { ERRNO, Errno } from '../abi/errno.ts';
import { MSG_DONTWAIT, SO_PEEK_OFF, SOL_SOCKET } from '../abi/socket.ts';
import type { OwnedFd } from './fd.ts';
import { Pinned, pinnedBytes, sys } from './ffi.ts';

/**
 * The most that may stay in the socket, as the kernel charges the sender for it. Beyond it, one more call takes all of
 * it out. A sender that polls gets POLLOUT while it uses a quarter of its send buffer or less: 208 KiB by default.
 */
const MAX_CHARGED_BYTES = 48 * 1024;
/** Linux charges a send for its bytes and their struct skb_shared_info, rounded up, and a struct sk_buff. */
const SHARED_INFO_BYTES = 320;
const SK_BUFF_BYTES = 256;

const scratch = new Pinned(MAX_CHARGED_BYTES);

/**
 * Bytes of a stream socket that this process has read (MSG_PEEK, from SO_PEEK_OFF on) and not yet taken out.
 *
 * A peer that waits for an answer sleeps on its own socket. Linux wakes it when this process takes its message out,
 * because it could now send more (unix_write_space); it finds no answer and sleeps again. Taking out each message costs
 * two switches of tasks and such a wake, a fifth of a round trip on one CPU. Taking out many together costs that once.
 *
 * A peer that sends more than its buffer holds needs the room. Leave only whole messages of peers that wait for the
 * reply. Call `takeOut` when nothing comes for a while, and before the socket is closed. Do not wait in a read while
 * bytes are left. Before Linux 6.18 such a read forgets the offset when it wakes, and brings the same bytes again
 * (7bf3a476ce43, "af_unix: Read sk_peek_offset() again after sleeping in unix_stream_read_generic()").
 */
export class PeekedBytes {
  readonly #socket: OwnedFd;
  /** Whether this kernel lets a read leave its bytes. */
  readonly works: boolean;
  #charged = 0;
  #bytes = 0;

  /** From now on every read of `socket` with MSG_PEEK goes on where the last one ended. */
  constructor(socket: OwnedFd) {
    this.#socket = socket;
    this.works = sys.setsockopt(socket.fd, SOL_SOCKET, SO_PEEK_OFF, pinnedBytes(4), 4) === 0;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /** Counts the bytes of a read with MSG_PEEK. Takes all out beyond MAX_CHARGED_BYTES, and throws as `takeOut`. */
  add(bytes: number): void {
    this.#bytes += bytes;
    this.#charged += powerOfTwoFrom(bytes + SHARED_INFO_BYTES) + SK_BUFF_BYTES;
    if (this.#charged >= MAX_CHARGED_BYTES) this.takeOut();
  }

  /** Takes the bytes out. Throws Errno when the socket does not return the bytes that it showed. */
  takeOut(): void {
    let mayFail = true;
    while (this.#bytes > 0) {
      const most = Math.min(this.#bytes, MAX_CHARGED_BYTES);
      const taken = sys.recv(this.#socket.fd, scratch.address, most, MSG_DONTWAIT);
      if (taken > 0) this.#bytes -= taken;
      // The kernel reports once that a peer left with bytes unread, ahead of the bytes that the peer sent.
      else if (taken === -ERRNO.ECONNRESET && mayFail) mayFail = false;
      else if (taken !== -ERRNO.EINTR) throw Errno.fromCode(taken === 0 ? ERRNO.EPIPE : -taken, this.#socket.what);
    }
    this.#charged = 0;
  }
}

/** Returns the smallest power of two that is at least `bytes`, which is at least 2. */
function powerOfTwoFrom(bytes: number): number {
  return 2 ** (32 - Math.clz32(bytes - 1));
}
