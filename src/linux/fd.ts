import { Errno } from '../abi/errno.ts';
import { F_DUPFD_CLOEXEC } from '../abi/fcntl.ts';
import { check, sys } from './ffi.ts';

/**
 * A file descriptor with one owner, who closes it once. Every later use is an error that names the descriptor, instead
 * of a call on another file that has the number by then.
 *
 * It does not promise that its file still works: a peer may have shut it down, or a device may be gone. Others may hold
 * the same file: `duplicate`, SCM_RIGHTS and fork make more descriptors.
 */
export class OwnedFd {
  /** Names the descriptor in messages. */
  readonly what: string;
  #fd: number;

  /** Takes ownership of `fd`. `what` names it in messages: "eventfd", "dma-buf of BAR 0". */
  constructor(fd: number, what: string) {
    if (!Number.isInteger(fd) || fd < 0) throw new Errno('EBADF', `${what}: ${fd} is not a file descriptor`);
    this.#fd = fd;
    this.what = what;
  }

  /** Returns the number, for one call. Throws EBADF after close or release. */
  get fd(): number {
    if (this.#fd < 0) throw new Errno('EBADF', `${this.what}: used after it was closed`);
    return this.#fd;
  }

  /** False after `close` or `release`. */
  get isOpen(): boolean {
    return this.#fd >= 0;
  }

  /** Closes it; closing again does nothing. Throws an error of close(2), but the descriptor is gone all the same. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    check(sys.close(fd), () => `close(${fd}) of ${this.what}`);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Gives the number away: the caller closes it. */
  release(): number {
    const { fd } = this;
    this.#fd = -1;
    return fd;
  }

  /** Returns a second descriptor of the same open file, close-on-exec. */
  duplicate(what = this.what): OwnedFd {
    return duplicateFd(this.fd, what);
  }
}

/** Closes all descriptors, also after one fails; throws the first failure. */
export function closeAll(fds: Iterable<OwnedFd>): void {
  let failure: unknown;
  for (const fd of fds) {
    try {
      fd.close();
    } catch (error) {
      failure ??= error;
    }
  }
  if (failure !== undefined) throw failure;
}

/** Returns a second descriptor of each. Throws, and makes none, when too few numbers are left. */
export function duplicateAll(fds: readonly number[], what: string): OwnedFd[] {
  const kept: OwnedFd[] = [];
  try {
    for (const fd of fds) kept.push(duplicateFd(fd, what));
    return kept;
  } catch (error) {
    closeAll(kept);
    throw error;
  }
}

/** Returns a descriptor for the file of another owner's descriptor, close-on-exec. */
export function duplicateFd(fd: number, what: string): OwnedFd {
  return new OwnedFd(
    check(sys.fcntl(fd, F_DUPFD_CLOEXEC, 0), () => `fcntl(F_DUPFD_CLOEXEC) of ${what}`),
    what,
  );
}
