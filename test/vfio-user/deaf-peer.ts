/** Peers that do not read, behind a SendQueue. */
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { SendQueue } from '../../src/vfio-user/wire/send-queue.ts';

export const MIB = 1 << 20;

export class DeafPeer {
  readonly queue: SendQueue;
  /** What `onLost` was called with. */
  readonly lost: (Error | null)[] = [];
  readonly theirs: OwnedFd;
  private readonly ours: OwnedFd;

  constructor() {
    [this.ours, this.theirs] = socketPair('a peer');
    this.queue = new SendQueue(this.ours, 1, (why) => this.lost.push(why));
  }

  /** Reads everything that is there; returns the first byte of each MiB. */
  readAll(): number[] {
    const into = new Pinned(MIB);
    const first: number[] = [];
    for (let at = 0; ; ) {
      const length = sys.recv(this.theirs.fd, into.address, MIB - (at % MIB), 0x40);
      if (length <= 0) {
        if (this.queue.isEmpty) return first;
        this.queue.flush();
        continue;
      }
      if (at % MIB === 0) first.push(into.bytes[0]);
      at += length;
    }
  }

  close(): void {
    this.queue.close();
    this.ours.close();
    this.theirs.close();
  }
}

/** So many bytes wait in other queues that the rest of a message of 800 kB finds no place. */
export class ClogQueues {
  private readonly peers: DeafPeer[] = [];

  constructor() {
    // 500 kB is less than the rest that must not fit.
    const message = new Pinned(500_000);
    for (let isFull = false; !isFull; ) {
      const peer = new DeafPeer();
      this.peers.push(peer);
      try {
        while (peer.lost.length === 0) peer.queue.send(message, message.bytes.length);
        isFull = true;
      } catch {
        // The share of this peer is used up.
      }
    }
  }

  close(): void {
    for (const peer of this.peers) peer.close();
  }
}
