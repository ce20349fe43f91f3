/** A file system in user space whose server does not answer: calls on its file wait for ever. */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startWorker } from '../../src/linux/worker.ts';

export interface SilentFile {
  /** The process's main thread may open it, and is answered. Other threads are not. */
  readonly path: string;
  /** Ends every call that waits, with ENOTCONN or ECONNABORTED. */
  close(): Promise<void>;
}

/** Mounts it; returns the reason where this user or this kernel cannot. */
export async function mountSilentFile(sizeBytes: number): Promise<SilentFile | string> {
  let fd: number;
  try {
    fd = openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    return (error as Error).message;
  }
  const folder = mkdtempSync(join(tmpdir(), 'barter-fuse-'));
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other';
  const { status, stderr, error } = spawnSync('mount', ['-i', '-t', 'fuse', '-o', options, 'barter', folder], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    encoding: 'utf8',
  });
  if (status !== 0) {
    closeSync(fd);
    rmdirSync(folder);
    return `FUSE cannot be mounted: ${error?.message ?? stderr.trim()}`;
  }
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = startWorker('./fuse-worker', import.meta.url, { workerData: { fd, stop, sizeBytes } });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('message', resolve));
  return {
    path: join(folder, 'file'),
    async close() {
      Atomics.store(stop, 0, 1);
      await ended;
      // Without this descriptor the connection is aborted.
      closeSync(fd);
      spawnSync('umount', ['-l', folder]);
      rmdirSync(folder);
    },
  };
}
