import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { test } from 'node:test';
import { SOCK_SEQPACKET } from '../../src/abi/socket.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { noteOf } from '../../src/linux/fd-note.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { socketPair } from '../../src/linux/socket.ts';
import { leavesNoFds } from './open-fds.ts';

test('a note has the kind of a descriptor, and the size of a file', () =>
  leavesNoFds(() => {
    const [memfd, eventfd] = [createMemfd('test', 12288), createEventfd('test')];
    const sockets = [...socketPair('test'), ...socketPair('test', SOCK_SEQPACKET)];
    assert.deepEqual(noteOf(memfd.fd), { kind: 'file', sizeBytes: 12288 });
    assert.deepEqual(noteOf(eventfd.fd), { kind: 'eventfd', sizeBytes: 0 });
    for (const { fd } of sockets) assert.deepEqual(noteOf(fd), { kind: 'socket', sizeBytes: 0 });
    for (const path of ['/dev/null', '/proc/self/status', '/']) {
      const fd = openSync(path, 'r');
      assert.deepEqual(noteOf(fd), { kind: 'other', sizeBytes: 0 }, path);
      closeSync(fd);
    }
    for (const each of [memfd, eventfd, ...sockets]) each.close();
    assert.deepEqual(noteOf(100_000), { kind: 'other', sizeBytes: 0 }, 'not a descriptor');
  }));
