import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Errno } from '../../src/abi/errno.ts';
import { F_SEAL_SHRINK } from '../../src/abi/fcntl.ts';
import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from '../../src/abi/mman.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { sys } from '../../src/linux/ffi.ts';
import { Mapping, PAGE_SIZE } from '../../src/linux/mapping.ts';
import { createMemfd, sealsOf } from '../../src/linux/memfd.ts';
import { FileMemory, openSharedMemory } from '../../src/linux/shared-memory.ts';
import { leavesNoFds } from './open-fds.ts';

const refused = (errno: string, text: RegExp) => (e: unknown) =>
  e instanceof Errno && e.errno === errno && text.test(e.message);

function unsealed(flags: number, pages: number): OwnedFd {
  const fd = new OwnedFd(sys.memfd_create('guest-ram', flags | MFD_CLOEXEC), 'guest RAM');
  sys.ftruncate(fd.fd, pages * PAGE_SIZE);
  return fd;
}

test('a memfd that cannot shrink is mapped; one that can be sealed is sealed first', () => {
  leavesNoFds(() => {
    const sealed = openSharedMemory(createMemfd('sealed', PAGE_SIZE), 0, PAGE_SIZE, true);
    assert.ok(sealed instanceof Mapping);
    sealed.close();

    const theirs = unsealed(MFD_ALLOW_SEALING, 2);
    const ours = openSharedMemory(theirs.duplicate(), PAGE_SIZE, PAGE_SIZE, true);
    assert.ok(ours instanceof Mapping);
    assert.equal(sealsOf(theirs.fd), F_SEAL_SHRINK);
    assert.equal(sys.ftruncate(theirs.fd, 0), -1);
    ours.close();
    theirs.close();
  });
});

test('a file that its owner can truncate is read and written by calls, and truncation is EIO, not SIGBUS', () => {
  leavesNoFds(() => {
    const theirs = unsealed(0, 3);
    const ours = openSharedMemory(theirs.duplicate(), PAGE_SIZE, 2 * PAGE_SIZE, true);
    assert.ok(ours instanceof FileMemory);
    ours.write(PAGE_SIZE - 2, Buffer.from('peer'));
    const back = Buffer.alloc(4);
    ours.read(PAGE_SIZE - 2, back);
    assert.equal(back.toString(), 'peer');
    assert.throws(() => ours.read(2 * PAGE_SIZE - 3, back), refused('EINVAL', /4 bytes at/));
    assert.throws(() => ours.read(-1, back), refused('EINVAL', /at -1/));

    sys.ftruncate(theirs.fd, 2 * PAGE_SIZE);
    assert.throws(() => ours.read(PAGE_SIZE - 2, back), refused('EIO', /truncated/));
    assert.throws(() => ours.write(PAGE_SIZE - 2, back), refused('EIO', /truncated/));
    ours.read(0, back);
    ours.close();
    theirs.close();
  });
});

test('a plain file works, read-only stays read-only', () => {
  const folder = mkdtempSync(join(tmpdir(), 'barter-shm-'));
  leavesNoFds(() => {
    const fd = openSync(join(folder, 'ram'), 'w+');
    ftruncateSync(fd, PAGE_SIZE);
    const memory = openSharedMemory(new OwnedFd(fd, 'ram file'), 0, PAGE_SIZE, false);
    assert.ok(memory instanceof FileMemory);
    assert.throws(() => memory.write(0, Buffer.alloc(1)), refused('EACCES', /read-only/));
    memory.close();
    assert.throws(() => closeSync(fd), /EBADF/);
  });
  rmSync(folder, { recursive: true });
});

test('what cannot be memory is refused, and its descriptor is closed all the same', () => {
  leavesNoFds(() => {
    const open = (fd: OwnedFd, offset: number, size: number) => () => openSharedMemory(fd, offset, size, true);
    assert.throws(open(createEventfd(), 0, PAGE_SIZE), refused('EINVAL', /no file of a local file system/));
    assert.throws(open(createMemfd('m', PAGE_SIZE), 0, 2 * PAGE_SIZE), refused('EINVAL', /of a file of 4096/));
    assert.throws(open(createMemfd('m', 2 * PAGE_SIZE), 100, PAGE_SIZE), refused('EINVAL', /at 100/));
    assert.throws(open(createMemfd('m', PAGE_SIZE), 0, 0), refused('EINVAL', /0 bytes/));
  });
});
