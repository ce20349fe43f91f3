/** Feeds streams of good and bad frames to FrameReader, cut at any byte, with descriptors anywhere. */
import assert from 'node:assert/strict';
import { Errno } from '../../src/abi/errno.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { PeekedBytes } from '../../src/linux/peeked-bytes.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { LIMITS } from '../../src/vfio-user/wire/frame.ts';
import { FrameReader } from '../../src/vfio-user/wire/frame-reader.ts';
import type { FuzzRun } from './fuzzer.ts';
import type { FuzzRandom } from './random.ts';

const MSG_DONTWAIT = 0x40;

interface Sent {
  bytes: Buffer;
  isGood: boolean;
}

function frame(random: FuzzRandom): Sent {
  const payload = random.chance(50) ? random.below(100_000) : random.below(200);
  const bytes = Buffer.alloc(16 + payload);
  for (let i = 0; i < Math.min(payload, 32); i++) bytes[16 + i] = random.bits();
  bytes.writeUInt16LE(random.below(65536), 0);
  bytes.writeUInt16LE(random.below(20), 2);
  const isBad = random.chance(200);
  const size = isBad ? random.pick([0, 15, LIMITS.maxMessageBytes + 1, 0xffffffff]) : bytes.length;
  bytes.writeUInt32LE(size, 4);
  const badType = random.chance(300);
  bytes.writeUInt32LE(badType ? 2 + random.below(14) : random.pick([0, 1, 0x10, 0x20, 0x21]), 8);
  return { bytes, isGood: !isBad && !badType };
}

/** Bytes that are frames only by accident. The reader must reach the end, or throw an Errno. */
function rawConnection({ random, coverage }: FuzzRun): number {
  const [ours, theirs] = socketPair('fuzz');
  const reader = new FrameReader();
  const left = random.chance(2) ? new PeekedBytes(theirs) : null;
  const bytes = new Pinned(1 + random.below(3000));
  for (let i = 0; i < bytes.bytes.length; i++) bytes.bytes[i] = random.chance(3) ? random.bits() : 0;
  // Small sizes keep the reader going.
  for (let at = 4; at + 4 <= bytes.bytes.length; at += 4 + random.below(40))
    bytes.view.setUint32(at, random.below(80), true);
  try {
    sys.send(ours.fd, bytes.address, bytes.bytes.length, MSG_DONTWAIT);
    while (reader.receive(theirs.fd, false, left) > 0)
      while (reader.next() !== null) coverage.count('decoder: raw frames');
    coverage.count('decoder: raw streams read to the end');
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    coverage.count(`decoder: raw ${error.code}`);
  } finally {
    reader.close();
    ours.close();
    theirs.close();
  }
  return 1 + Math.floor(bytes.bytes.length / 40);
}

/** One connection. The frames read must be those sent, up to the first invalid frame. */
function connection({ random, coverage }: FuzzRun, event: number): number {
  const [ours, theirs] = socketPair('fuzz');
  const reader = new FrameReader();
  const left = random.chance(2) ? new PeekedBytes(theirs) : null;
  const out = new Message(1, 64);
  const frames = Array.from({ length: 1 + random.below(60) }, () => frame(random));
  const stream = Buffer.concat(frames.map(({ bytes }) => bytes));
  const pinned = new Pinned(stream.length);
  pinned.bytes.set(stream);
  const expected = frames.findIndex(({ isGood }) => !isGood);
  const good = expected < 0 ? frames.length : expected;
  let got = 0;
  let fdsSent = 0;
  let fdsGot = 0;
  try {
    for (let at = 0; at < stream.length; ) {
      const length = Math.min(stream.length - at, random.chance(3) ? 1 + random.below(20) : 1 + random.below(60_000));
      const fds = random.chance(20) ? new Array(random.chance(30) ? 17 : 1 + random.below(3)).fill(event) : [];
      out.setIov(0, pinned.address + at, length);
      const sent = out.sendmsg(ours.fd, MSG_DONTWAIT, fds);
      if (sent > 0) {
        at += sent;
        fdsSent += fds.length;
      }
      while (reader.receive(theirs.fd, false, left) > 0) {
        for (let next = reader.next(); next !== null; next = reader.next()) {
          assert.ok(Buffer.from(next.payload).equals(frames[got].bytes.subarray(16)), `frame ${got} differs`);
          assert.equal(next.id, frames[got].bytes.readUInt16LE(0));
          got += 1;
          fdsGot += next.fds.length;
          for (const fd of next.fds) fd.close();
          if (random.chance(30)) reader.keepLast();
        }
      }
    }
    assert.equal(got, good, 'every good frame, and none behind a bad one');
    assert.ok(fdsGot <= fdsSent);
    coverage.count(got === frames.length ? 'decoder: whole streams' : 'decoder: streams that end in a message');
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    coverage.count(`decoder: ${error.code}`);
    assert.ok(got <= good, 'nothing behind a bad frame');
  } finally {
    reader.close();
    out.close();
    ours.close();
    theirs.close();
  }
  return frames.length;
}

export function fuzzDecoder(run: FuzzRun): void {
  const event = createEventfd('fuzz');
  for (let sent = 0; sent < run.messages; ) {
    sent += run.random.chance(10) ? rawConnection(run) : connection(run, event.fd);
  }
  event.close();
}
