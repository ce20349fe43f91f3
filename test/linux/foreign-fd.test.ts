/** Which files answer without asking another process, found out without asking one. */
import assert from 'node:assert/strict';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { fileSystemOf, isEventfd, isLocalFile, mayLinger } from '../../src/linux/foreign-fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { mountSilentFile } from './fuse.ts';
import { mounted } from './hugepages.ts';

test('memfds and files of local file systems are local; eventfds, and files of the kernel, are not memory', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-foreign-'));
  const file = new OwnedFd(openSync(join(folder, 'file'), 'w+'), 'file');
  const memfd = createMemfd('foreign', 4096);
  const event = createEventfd();
  const status = new OwnedFd(openSync('/proc/self/status', 'r'), 'proc');
  assert.deepEqual(
    [memfd, file, event, status].map(({ fd }) => [isLocalFile(fd), isEventfd(fd), mayLinger(fd)]),
    [
      [true, false, false],
      [true, false, true],
      [false, true, false],
      [false, false, true],
    ],
  );
  for (const each of [file, memfd, event, status]) each.close();
  rmSync(folder, { recursive: true });
});

test('a file of tmpfs is local, and its close waits for nobody', (t: TestContext) => {
  const folder = mounted(t, 'tmpfs');
  if (folder === null) return;
  const file = new OwnedFd(openSync(join(folder, 'file'), 'w+'), 'file');
  assert.deepEqual([fileSystemOf(file.fd), isLocalFile(file.fd), mayLinger(file.fd)], ['tmpfs', true, false]);
  file.close();
});

test('a file of FUSE is not local, and its close may wait', async (t: TestContext) => {
  const silent = await mountSilentFile(4096);
  if (typeof silent === 'string') return t.skip(silent);
  const file = new OwnedFd(openSync(silent.path, 'r+'), 'file of FUSE');
  assert.deepEqual([fileSystemOf(file.fd), isLocalFile(file.fd), mayLinger(file.fd)], ['fuse', false, true]);
  file.close();
  await silent.close();
});
