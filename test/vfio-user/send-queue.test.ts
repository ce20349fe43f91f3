/** Messages for peers that do not read: in order, and no more than so many bytes for one peer and for all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { SendQueue } from '../../src/vfio-user/wire/send-queue.ts';

const MIB = 1 << 20;
const { maxUnsentBytes, maxUnsentBytesOfAll } = LIMITS;

class Peer {
  readonly queue: SendQueue;
  readonly lost: (Error | null)[] = [];
  private readonly ours: OwnedFd;
  private readonly theirs: OwnedFd;

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

/** Sends messages of 1 MiB until the queue refuses one. */
function fill(peer: Peer): number {
  const message = new Pinned(MIB);
  for (let sent = 0; ; sent++) {
    message.bytes[0] = sent & 0xff;
    try {
      peer.queue.send(message, MIB);
    } catch (error) {
      assert.match(String(error), /ENOBUFS: \d+ bytes are not read, and \d+ with those for other peers/);
      return sent;
    }
  }
}

test('bytes that nobody reads have a limit for each peer and for all; what is read makes room', () => {
  const peers: Peer[] = [];
  const sentTo = new Map<Peer, number>();
  // The first message goes into the socket, at least in part.
  const each = maxUnsentBytes / MIB;
  for (let i = 0; i < maxUnsentBytesOfAll / maxUnsentBytes; i++) {
    const peer = new Peer();
    peers.push(peer);
    const sent = fill(peer);
    sentTo.set(peer, sent);
    assert.ok(sent >= each && sent <= each + 1, `${sent}`);
  }
  const late = new Peer();
  assert.ok(fill(late) < each, 'those of all peers leave less');
  const [first] = peers;
  assert.deepEqual(
    first.readAll(),
    Array.from({ length: sentTo.get(first)! }, (_, i) => i),
    'in order',
  );
  assert.deepEqual([first.queue.isEmpty, first.lost], [true, []]);
  assert.ok(fill(late) > 0, 'there is room again');
  for (const peer of [...peers, late]) peer.close();
  const again = new Peer();
  assert.ok(fill(again) >= each, 'a queue that is closed counts no more');
  again.close();
});

test('more messages than 256 are refused, however small', () => {
  const peer = new Peer();
  const message = new Pinned(64 * 1024);
  const small = new Pinned(16);
  while (peer.queue.isEmpty) peer.queue.send(message, message.bytes.length);
  let kept = 1;
  assert.throws(
    () => {
      for (; ; kept++) peer.queue.send(small, 16);
    },
    { code: 'ENOBUFS' },
  );
  assert.equal(kept, 256);
  peer.close();
});
