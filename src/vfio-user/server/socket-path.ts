/** A server's socket at a path: taken and removed without races between servers. */
import { closeSync, constants, lstatSync, openSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { ERRNO, Errno } from '../../abi/errno.ts';
import { LOCK_EX, LOCK_NB } from '../../abi/fcntl.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { sys } from '../../linux/ffi.ts';
import { pause } from '../../linux/pause.ts';
import { connectUnix, listenUnix } from '../../linux/socket.ts';

/** Each server holds the folder's lock for a moment, while it takes or removes a socket. */
const LOCK_TIMEOUT_MS = 5000;
const LOCK_RETRY_MS = 2;
/** A server that does not accept within this time still counts as alive. */
const PROBE_MS = 1000;

export class SocketPath {
  readonly listener: OwnedFd;
  private readonly path: string;
  private readonly identity: string;

  /**
   * Listens at `path`, for the owner alone (0600). EADDRINUSE when another server listens there, or when the path is
   * not a socket. Replaces the socket of a dead server.
   */
  constructor(path: string) {
    this.path = path;
    this.listener = withFolderLocked(path, () => {
      if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
        if (isTaken(path)) throw new Errno('EADDRINUSE', `bind(${path}): another server, or another file, is there`);
        unlinkSync(path);
      }
      return listenUnix(path);
    });
    this.identity = identityOf(path) ?? '';
  }

  /** Stops listening and removes the socket, unless another server has taken the path. */
  close(): void {
    this.listener.close();
    try {
      withFolderLocked(this.path, () => {
        if (identityOf(this.path) === this.identity) unlinkSync(this.path);
      });
    } catch (error) {
      // The folder is gone or not this user's any more, and so is the socket.
      if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    }
  }
}

/** Runs `body` under the folder's lock. A server that starts and one that stops must not see each other's half. */
function withFolderLocked<T>(path: string, body: () => T): T {
  const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    for (const deadline = performance.now() + LOCK_TIMEOUT_MS; ; ) {
      const result = sys.flock(folder, LOCK_EX | LOCK_NB);
      // Some network file systems have no locks. There, races between two calls remain.
      if (result !== -ERRNO.EAGAIN && result !== -ERRNO.EINTR) return body();
      if (performance.now() > deadline) throw new Errno('EBUSY', `${dirname(path)} is locked by another process`);
      pause(LOCK_RETRY_MS);
    }
  } finally {
    closeSync(folder);
  }
}

function isTaken(path: string): boolean {
  if (!lstatSync(path).isSocket()) return true;
  try {
    connectUnix(path, PROBE_MS).close();
    return true;
  } catch (error) {
    return !(error instanceof Errno && error.code === 'ECONNREFUSED');
  }
}

function identityOf(path: string): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? null : `${stat.dev}:${stat.ino}`;
}
