/** Messages for peers that do not read: in order, and no more than so many bytes for one peer and for all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { ClogQueues, DeafPeer, MIB } from './deaf-peer.ts';

const { maxUnsentBytes, maxUnsentBytesOfAll } = LIMITS;

/** Sends messages of 1 MiB until the queue refuses one. */
function fill(peer: DeafPeer): number {
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
  const peers: DeafPeer[] = [];
  const sentTo = new Map<DeafPeer, number>();
  // The first message goes into the socket, at least in part.
  const each = maxUnsentBytes / MIB;
  for (let i = 0; i < maxUnsentBytesOfAll / maxUnsentBytes; i++) {
    const peer = new DeafPeer();
    peers.push(peer);
    const sent = fill(peer);
    sentTo.set(peer, sent);
    assert.ok(sent >= each && sent <= each + 1, `${sent}`);
  }
  const late = new DeafPeer();
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
  const again = new DeafPeer();
  assert.ok(fill(again) >= each, 'a queue that is closed counts no more');
  again.close();
});

test('a peer that has a part of a message gets the rest, or nothing more', () => {
  const full = new ClogQueues();
  const late = new DeafPeer();
  const message = new Pinned(MIB);
  late.queue.send(message, MIB);
  const [why] = late.lost;
  assert.match(String(why), /ENOBUFS: 0 bytes are not read, and \d+ with those for other peers/);
  assert.deepEqual([late.lost.length, late.queue.isEmpty], [1, true]);
  full.close();
  late.close();
});

test('a message with a descriptor that is closed is refused, and the peer is not lost', () => {
  const peer = new DeafPeer();
  const message = new Pinned(16);
  assert.throws(() => peer.queue.send(message, 16, [1 << 20]), { code: 'EBADF' });
  peer.queue.send(message, 16);
  const into = new Pinned(64);
  assert.equal(sys.recv(peer.theirs.fd, into.address, 64, 0x40), 16);
  assert.deepEqual(peer.lost, []);
  peer.close();
});

test('more messages than 256 are refused, however small', () => {
  const peer = new DeafPeer();
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
