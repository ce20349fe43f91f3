import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ERRNO } from '../../src/abi/errno.ts';
import { POLLOUT } from '../../src/abi/poll.ts';
import { MSG_DONTWAIT, MSG_PEEK } from '../../src/abi/socket.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { PeekedBytes } from '../../src/linux/peeked-bytes.ts';
import { pollOne } from '../../src/linux/poll.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { leavesNoFds } from './open-fds.ts';

const buffer = new Pinned(64 * 1024);

function send(socket: OwnedFd, text: string): number {
  buffer.bytes.write(text);
  return sys.send(socket.fd, buffer.address, text.length, MSG_DONTWAIT);
}

/** A read as a FrameReader does it. */
function read(socket: OwnedFd, left: PeekedBytes): string {
  const flags = MSG_DONTWAIT | (left.works ? MSG_PEEK : 0);
  const received = sys.recv(socket.fd, buffer.address, buffer.bytes.length, flags);
  if (received === -ERRNO.EAGAIN) return '';
  assert.ok(received > 0, `${received}`);
  if ((flags & MSG_PEEK) !== 0) left.add(received);
  return buffer.bytes.toString('latin1', 0, received);
}

test('bytes that stay in the socket are read once, in order, whenever they are taken out', () =>
  leavesNoFds(() => {
    const [ours, theirs] = socketPair();
    const left = new PeekedBytes(ours);
    let got = '';
    let sent = '';
    for (let i = 0; i < 1000; i++) {
      const text = `message ${i}, ${'x'.repeat(i % 50)};`;
      send(theirs, text);
      sent += text;
      if (i % 3 !== 0) got += read(ours, left);
      if (i % 37 === 0) left.takeOut();
    }
    got += read(ours, left);
    assert.equal(got, sent);
    left.takeOut();
    assert.equal(left.isEmpty, true);
    assert.equal(read(ours, left), '');
    ours.close();
    theirs.close();
  }));

test('what was left makes room for the sender once it is taken out', () =>
  leavesNoFds(() => {
    const [ours, theirs] = socketPair();
    const left = new PeekedBytes(ours);
    let sent = 0;
    while (send(theirs, 'x') === 1) sent += 1;
    assert.equal(read(ours, left).length, sent);
    assert.equal(send(theirs, 'y'), -ERRNO.EAGAIN, 'it is read, and the sender has no room all the same');
    left.takeOut();
    assert.equal(send(theirs, 'y'), 1);
    assert.equal(read(ours, left), 'y');
    theirs.close();
    left.takeOut();
    assert.equal(sys.recv(ours.fd, buffer.address, 1, MSG_DONTWAIT), 0, 'the end of the stream');
    ours.close();
  }));

test('never is so much left that a peer which waits until it may send waits for nothing', () =>
  leavesNoFds(() => {
    const [ours, theirs] = socketPair();
    const left = new PeekedBytes(ours);
    for (const length of [1, 32, 36, 191, 192, 193, 700, 1728, 4128, 16_000, 40_000]) {
      for (let i = 0; i < 200; i++) {
        assert.equal(pollOne(theirs.fd, POLLOUT, 0), POLLOUT, `${i} messages of ${length} bytes`);
        assert.equal(sys.send(theirs.fd, buffer.address, length, MSG_DONTWAIT), length);
        assert.equal(read(ours, left).length, length);
      }
    }
    left.takeOut();
    ours.close();
    theirs.close();
  }));

test('descriptors come once with a read that leaves its bytes, and go when they are taken out', () =>
  leavesNoFds(() => {
    const [ours, theirs] = socketPair();
    const left = new PeekedBytes(ours);
    const event = createEventfd();
    const message = new Message(1, 4);
    message.setIov(0, buffer.address, 8);
    assert.equal(message.sendmsg(theirs.fd, 0, [event.fd]), 8);
    assert.equal(message.recvmsg(ours.fd, MSG_DONTWAIT | MSG_PEEK), 8);
    left.add(8);
    const [fd] = message.takeFds('test');
    assert.equal(message.recvmsg(ours.fd, MSG_DONTWAIT | MSG_PEEK), -ERRNO.EAGAIN);
    left.takeOut();
    fd.close();
    event.close();
    ours.close();
    theirs.close();
  }));

test('a peer that left with something unread makes nothing be read twice', () => {
  const [ours, theirs] = socketPair();
  const left = new PeekedBytes(ours);
  send(theirs, 'abc');
  assert.equal(read(ours, left), 'abc');
  send(ours, 'never read');
  theirs.close();
  left.takeOut();
  assert.equal(left.isEmpty, true);
  ours.close();
});
