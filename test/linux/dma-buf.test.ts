import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Errno } from '../../src/abi/errno.ts';
import { SEEK_CUR } from '../../src/abi/fcntl.ts';
import * as dmaBuf from '../../src/linux/dma-buf.ts';
import { PAGE_SIZE } from '../../src/linux/mapping.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import { leavesNoFds } from './open-fds.ts';

/**
 * Without a kernel that makes dma-bufs, a memfd takes their place. Calls for any file work, calls for a dma-buf alone
 * get ENOTTY, and nothing leaks. test/lab compares the results of a real dma-buf.
 */
test('calls that every file has work, the ioctls of a dma-buf are refused by name', () => {
  leavesNoFds(() => {
    const file = createMemfd('stand-in', 2 * PAGE_SIZE);
    assert.equal(dmaBuf.dmaBufSizeBytes(file), 2 * PAGE_SIZE);
    assert.equal(dmaBuf.dmaBufSeek(file, 0, SEEK_CUR), 2 * PAGE_SIZE);
    assert.equal(dmaBuf.dmaBufLink(file), '/memfd:stand-in (deleted)');
    assert.equal(dmaBuf.dmaBufFdinfo(file).pos, String(2 * PAGE_SIZE));
    assert.deepEqual(dmaBuf.dmaBufPoll(file), { readable: true, writable: true });
    const mapping = dmaBuf.dmaBufMap(file, PAGE_SIZE);
    assert.equal(mapping.sizeBytes, PAGE_SIZE);
    mapping.unmap();
    for (const [name, call] of [
      ['DMA_BUF_SET_NAME', () => dmaBuf.dmaBufSetName(file, 'slice')],
      ['DMA_BUF_IOCTL_SYNC', () => dmaBuf.dmaBufSync(file, 1)],
      ['DMA_BUF_IOCTL_EXPORT_SYNC_FILE', () => dmaBuf.dmaBufExportSyncFile(file, 1)],
      ['DMA_BUF_IOCTL_IMPORT_SYNC_FILE', () => dmaBuf.dmaBufImportSyncFile(file, 1, 0)],
    ] as const) {
      assert.throws(call, (e: Errno) => e.code === 'ENOTTY' && e.message.includes(name));
    }
    file.close();
  });
});
