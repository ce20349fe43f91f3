import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getuid, pid } from 'node:process';
import { test } from 'node:test';
import { ERRNO, Errno } from '../../src/abi/errno.ts';
import { F_GETFD, FD_CLOEXEC } from '../../src/abi/fcntl.ts';
import { POLLHUP, POLLIN } from '../../src/abi/poll.ts';
import { MSG_DONTWAIT } from '../../src/abi/socket.ts';
import { createEventfd, readEventfd, signalEventfd } from '../../src/linux/eventfd.ts';
import { closeAll } from '../../src/linux/fd.ts';
import { addressOf, pinnedBytes, sys } from '../../src/linux/ffi.ts';
import { Message } from '../../src/linux/message.ts';
import { Epoll, PollSet, pollOne } from '../../src/linux/poll.ts';
import {
  acceptUnix,
  connectUnix,
  listenUnix,
  peerCredentials,
  setSocketTimeout,
  shutdownSocket,
  socketPair,
  tryAccept,
} from '../../src/linux/socket.ts';
import { leavesNoFds } from './open-fds.ts';

const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.code === errno && text.test(e.message);

/** A message over `length` bytes of its own memory. */
function message(length: number, maxFds: number): { message: Message; memory: Buffer } {
  const memory = pinnedBytes(length);
  const made = new Message(2, maxFds);
  made.setIov(0, addressOf(memory), length, memory);
  return { message: made, memory };
}

function withFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'barter-socket-'));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a listener is for its owner alone, and the accepted side knows who connected', () => {
  leavesNoFds(() =>
    withFolder((folder) => {
      const path = join(folder, 'dev.sock');
      const listener = listenUnix(path);
      assert.equal(statSync(path).mode & 0o777, 0o600);
      const client = connectUnix(path);
      const server = acceptUnix(listener);
      const peer = peerCredentials(server);
      assert.equal(peer.pid, pid);
      assert.equal(peer.uid, getuid?.());
      assert.throws(() => listenUnix(path), refused('EADDRINUSE', /bind\(.*dev\.sock/));
      closeAll([client, server, listener]);
      assert.throws(() => connectUnix(path), refused('ECONNREFUSED', /connect/));
      assert.throws(() => connectUnix(join(folder, 'none')), refused('ENOENT', /connect/));
      assert.throws(() => listenUnix(join(folder, 'x'.repeat(120))), refused('EINVAL', /1 to 107/));
    }),
  );
});

test('bytes and several descriptors travel together, close-on-exec, and work on the other side', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const sender = message(5, 8);
    sender.memory.write('hello');
    const receiver = message(64, 8);
    const eventfds = [createEventfd('one'), createEventfd('two'), createEventfd('three')];
    assert.equal(
      sender.message.sendmsg(
        a.fd,
        0,
        eventfds.map((e) => e.fd),
      ),
      5,
    );
    assert.equal(receiver.message.recvmsg(b.fd), 5);
    assert.equal(receiver.memory.toString('utf8', 0, 5), 'hello');
    assert.ok(receiver.message.hasFds);
    const came = receiver.message.takeFds('irq');
    assert.equal(came.length, 3);
    assert.ok(!receiver.message.hasFds);
    came.forEach((fd) => {
      assert.equal(sys.fcntl(fd.fd, F_GETFD, 0) & FD_CLOEXEC, FD_CLOEXEC);
    });
    signalEventfd(came[1].fd);
    assert.deepEqual(
      eventfds.map((e) => readEventfd(e.fd)),
      [0, 1, 0],
    );
    closeAll([a, b, ...eventfds, ...came]);
  });
});

test('a second message without descriptors brings none; untaken ones are closed', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const sender = message(1, 4);
    const receiver = message(64, 4);
    sender.message.sendmsg(a.fd, 0, [a.fd]);
    receiver.message.recvmsg(b.fd);
    sender.message.sendmsg(a.fd);
    assert.equal(receiver.message.recvmsg(b.fd), 1);
    assert.ok(!receiver.message.hasFds);
    assert.deepEqual(receiver.message.takeFds('none'), []);
    sender.message.sendmsg(a.fd, 0, [a.fd, b.fd]);
    receiver.message.recvmsg(b.fd);
    receiver.message.close();
    closeAll([a, b]);
  });
});

test('more descriptors than there is room for: all are closed and the peer is named', () => {
  for (const room of [0, 1, 2]) {
    leavesNoFds(() => {
      const [a, b] = socketPair();
      const sender = message(1, 16);
      const receiver = message(64, room);
      sender.message.sendmsg(a.fd, 0, new Array(9).fill(a.fd));
      assert.equal(receiver.message.recvmsg(b.fd), 1);
      assert.ok(receiver.message.hasFds);
      assert.throws(() => receiver.message.takeFds('client 7'), refused('EMSGSIZE', /client 7: more than/));
      assert.deepEqual(receiver.message.takeFds('client 7'), []);
      closeAll([a, b]);
    });
  }
});

test('the most descriptors that the kernel takes, and one more', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const sender = message(1, 253);
    const receiver = message(64, 253);
    assert.equal(sender.message.sendmsg(a.fd, 0, new Array(253).fill(a.fd)), 1);
    assert.equal(receiver.message.recvmsg(b.fd), 1);
    closeAll(receiver.message.takeFds('many'));
    assert.throws(() => sender.message.sendmsg(a.fd, 0, new Array(254).fill(a.fd)), refused('EINVAL', /254/));
    assert.throws(() => new Message(1, 254), refused('EINVAL', /253/));
    closeAll([a, b]);
  });
});

test('scatter and gather: a header and its data from two places', () => {
  const [a, b] = socketPair();
  const data = pinnedBytes(8);
  data.write('the data');
  const sender = message(4, 0);
  sender.memory.write('head');
  sender.message.setIov(1, addressOf(data), 8, data);
  assert.equal(sender.message.sendmsg(a.fd), 12);
  const receiver = message(6, 0);
  assert.equal(receiver.message.recvmsg(b.fd), 6);
  assert.equal(receiver.memory.toString(), 'headth');
  // Back to one iovec: the message ends with the last iovec that was set.
  sender.message.setIov(0, addressOf(sender.memory), 4, sender.memory);
  assert.equal(sender.message.sendmsg(a.fd), 4);
  closeAll([a, b]);
});

test('a dead peer is a result, not an exception and not SIGPIPE', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const sender = message(1, 0);
    const receiver = message(8, 0);
    assert.equal(receiver.message.recvmsg(b.fd, MSG_DONTWAIT), -ERRNO.EAGAIN);
    sender.message.sendmsg(a.fd);
    a.close();
    assert.equal(receiver.message.recvmsg(b.fd), 1);
    assert.equal(receiver.message.recvmsg(b.fd), 0);
    assert.equal(sender.message.sendmsg(b.fd), -ERRNO.EPIPE);
    b.close();
  });
});

test('timeouts and shutdown end a wait', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const receiver = message(8, 0);
    setSocketTimeout(a, 20);
    const started = performance.now();
    assert.equal(receiver.message.recvmsg(a.fd), -ERRNO.EAGAIN);
    assert.ok(performance.now() - started >= 15);
    shutdownSocket(b);
    assert.equal(receiver.message.recvmsg(a.fd), 0);
    a.close();
    shutdownSocket(b);
    b.close();
  });
});

test('poll and epoll tell which descriptor is ready, and time out', () => {
  leavesNoFds(() => {
    const [a, b] = socketPair();
    const event = createEventfd();
    const set = new PollSet(3);
    set.set(0, b.fd, POLLIN);
    set.set(1, event.fd, POLLIN);
    assert.equal(set.wait(0), 0);
    signalEventfd(event.fd);
    assert.equal(set.wait(-1), 1);
    assert.deepEqual([set.revents(0), set.revents(1), set.revents(2)], [0, POLLIN, 0]);
    assert.throws(() => set.set(3, 0, 0), refused('EINVAL', /poll set of 3/));

    const epoll = new Epoll(4);
    epoll.add(b.fd, POLLIN, 2 ** 40 + 1);
    epoll.add(event.fd, POLLIN, 7);
    assert.equal(epoll.wait(0), 1);
    assert.equal(epoll.data(0), 7);
    readEventfd(event.fd);
    a.close();
    assert.equal(epoll.wait(1000), 1);
    assert.equal(epoll.data(0), 2 ** 40 + 1);
    assert.ok((epoll.events(0) & POLLHUP) !== 0);
    epoll.remove(b.fd);
    assert.equal(epoll.wait(5), 0);
    assert.throws(() => epoll.remove(b.fd), refused('ENOENT', /epoll_ctl/));
    assert.equal(pollOne(b.fd, POLLIN, 0) & POLLHUP, POLLHUP);
    closeAll([b, event]);
    epoll.close();
  });
});

test('a listener that does not block says so', () => {
  withFolder((folder) => {
    const listener = listenUnix(join(folder, 's'));
    assert.equal(pollOne(listener.fd, POLLIN, 0), 0);
    const client = connectUnix(join(folder, 's'));
    assert.equal(pollOne(listener.fd, POLLIN, 0), POLLIN);
    const fd = tryAccept(listener, true);
    assert.ok(fd >= 0);
    sys.close(fd);
    closeAll([client, listener]);
  });
});

test('a connect keeps its time limit while the backlog is full', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-backlog-'));
  const path = join(folder, 'full.sock');
  const listener = listenUnix(path, 0);
  const waiting = connectUnix(path);
  const start = performance.now();
  assert.throws(() => connectUnix(path, 50), refused('ETIMEDOUT', /does not accept within 50 ms/));
  assert.ok(performance.now() - start >= 45);
  waiting.close();
  listener.close();
  rmSync(folder, { recursive: true });
});
