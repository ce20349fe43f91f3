/**
 * Peers that would make a call wait. The rescue ends a wait that a failing test would otherwise never leave, since a
 * blocked call blocks the test's whole process.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { F_SETFL, O_NONBLOCK } from '../../src/abi/fcntl.ts';
import { readEventfd } from '../../src/linux/eventfd.ts';
import type { OwnedFd } from '../../src/linux/fd.ts';
import { Pinned, sys } from '../../src/linux/ffi.ts';

const RESCUE_AFTER_MS = 1000;

/** Runs the shell command `command` after RESCUE_AFTER_MS, with `fd` as its descriptor 3. */
export class Rescue {
  private readonly child: ChildProcess;
  private readonly started = performance.now();

  constructor(command: string, fd: number) {
    const script = `sleep ${RESCUE_AFTER_MS / 1000}; ${command}`;
    this.child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'inherit', fd] });
  }

  /** Whether the rescue was needed: whether RESCUE_AFTER_MS have passed. */
  get came(): boolean {
    return performance.now() - this.started >= RESCUE_AFTER_MS;
  }

  async end(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}

/** Fills the peer's counter, so that the next writer waits. */
export function fillAndBlock(fd: OwnedFd): void {
  const word = new Pinned(8);
  readEventfd(fd.fd);
  word.view.setBigUint64(0, 0xfffffffffffffffen, true);
  sys.fcntl(fd.fd, F_SETFL, O_NONBLOCK);
  sys.write(fd.fd, word.address, 8);
  sys.fcntl(fd.fd, F_SETFL, 0);
}
