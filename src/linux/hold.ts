/** The ways in which Linux lets a process hold an open file, besides a descriptor of its own. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { O_CLOEXEC, O_PATH } from '../abi/fcntl.ts';
import {
  __NR_io_uring_register,
  __NR_io_uring_setup,
  IO_URING_PARAMS_SIZE,
  IORING_REGISTER_FILES,
  IORING_UNREGISTER_FILES,
} from '../abi/io_uring.ts';
import { EPOLLIN } from '../abi/poll.ts';
import { OwnedFd } from './fd.ts';
import { check, Pinned, sys } from './ffi.ts';
import { Message } from './message.ts';
import { Epoll } from './poll.ts';
import { socketPair } from './socket.ts';

const POLL_MS = 2;
const ENTRIES = 4;

/** A hold of a file. */
export interface Hold {
  /** Lets go. Returns when the kernel has dropped the hold. */
  release(): void;
}

/**
 * `fork`: a child process inherits the descriptor. `scm-rights`: a message that nobody has received. `o-path`: an open
 * of /proc/self/fd/N by its path. `io-uring`: a fixed file of a ring. `epoll`: a member of a set.
 */
export type HoldKind = 'fork' | 'scm-rights' | 'o-path' | 'io-uring' | 'epoll';

const HOLDS: Readonly<Record<HoldKind, (file: OwnedFd) => Hold>> = {
  fork: byFork,
  'scm-rights': byMessage,
  'o-path': byPath,
  'io-uring': byRing,
  epoll: byEpoll,
};

/** Holds the file of a descriptor, which stays the caller's. Throws the errno of the system call. */
export function holdFd(file: OwnedFd, how: HoldKind): Hold {
  return HOLDS[how](file);
}

function byFork(file: OwnedFd): Hold {
  const child = spawn('sleep', ['1000000'], { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
  const pid = child.pid!;
  return {
    release: () => {
      process.kill(pid, 'SIGKILL');
      const idle = new Int32Array(new SharedArrayBuffer(4));
      while (hasFiles(pid)) Atomics.wait(idle, 0, 0, POLL_MS);
    },
  };
}

/** Whether a process still has its descriptors. A dead one that nobody has waited for has none. */
function hasFiles(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

function byMessage(file: OwnedFd): Hold {
  const [ours, theirs] = socketPair();
  const byte = new Pinned(1);
  const message = new Message(1, 1);
  message.setIov(0, byte.address, 1, byte.bytes);
  check(message.sendmsg(ours.fd, 0, [file.fd]), () => `sendmsg of ${file.what}`);
  return {
    release: () => {
      ours.close();
      theirs.close();
    },
  };
}

function byPath(file: OwnedFd): Hold {
  const path = `/proc/self/fd/${file.fd}`;
  const fd = new OwnedFd(
    check(sys.open(path, O_PATH | O_CLOEXEC), () => `open(${path}, O_PATH)`),
    path,
  );
  return { release: () => fd.close() };
}

function byRing(file: OwnedFd): Hold {
  const params = new Pinned(IO_URING_PARAMS_SIZE);
  const ring = new OwnedFd(
    check(sys.syscall(__NR_io_uring_setup, ENTRIES, params.address, 0, 0, 0, 0), () => 'io_uring_setup'),
    'io_uring',
  );
  const fds = new Pinned(4);
  fds.view.setInt32(0, file.fd, true);
  const register = (what: number, address: number, count: number) =>
    check(sys.syscall(__NR_io_uring_register, ring.fd, what, address, count, 0, 0), () => `io_uring_register(${what})`);
  register(IORING_REGISTER_FILES, fds.address, 1);
  return {
    release: () => {
      register(IORING_UNREGISTER_FILES, 0, 0);
      ring.close();
    },
  };
}

function byEpoll(file: OwnedFd): Hold {
  const epoll = new Epoll();
  epoll.add(file.fd, EPOLLIN, 0);
  return { release: () => epoll.close() };
}
