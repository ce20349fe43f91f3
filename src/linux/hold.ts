/** The ways in which Linux lets a process hold an open file, besides a descriptor of its own. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Errno } from '../abi/errno.ts';
import { O_CLOEXEC, O_PATH } from '../abi/fcntl.ts';
import {
  __NR_io_uring_register,
  __NR_io_uring_setup,
  IO_URING_PARAMS_SIZE,
  IORING_REGISTER_FILES,
  IORING_UNREGISTER_FILES,
} from '../abi/io_uring.ts';
import { EPOLLIN } from '../abi/poll.ts';
import { closeAll, OwnedFd } from './fd.ts';
import { check, Pinned, sys } from './ffi.ts';
import { Message } from './message.ts';
import { pause } from './pause.ts';
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
  // It ends with this process, too: nobody else holds the other end of its pipe.
  const child = spawn('cat', [], { stdio: ['pipe', 'ignore', 'ignore', file.fd] });
  child.on('error', () => {});
  const { pid } = child;
  if (pid === undefined) throw new Errno('ENOENT', 'no program cat, whose process would hold the file');
  return {
    release: () => {
      process.kill(pid, 'SIGKILL');
      while (hasFiles(pid)) pause(POLL_MS);
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
  const pair = socketPair();
  const release = (): void => closeAll(pair);
  const byte = new Pinned(1);
  const message = new Message(1, 1);
  message.setIov(0, byte.address, 1, byte.bytes);
  return held(release, () => check(message.sendmsg(pair[0].fd, 0, [file.fd]), () => `sendmsg of ${file.what}`));
}

/** Begins a hold whose objects are there. `release` closes them, also where `begin` fails. */
function held(release: () => void, begin: () => void): Hold {
  try {
    begin();
  } catch (error) {
    release();
    throw error;
  }
  return { release };
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
  const fds = new Pinned(4);
  fds.view.setInt32(0, file.fd, true);
  const params = new Pinned(IO_URING_PARAMS_SIZE);
  const ring = new OwnedFd(
    check(sys.syscall(__NR_io_uring_setup, ENTRIES, params.address, 0, 0, 0, 0), () => 'io_uring_setup'),
    'io_uring',
  );
  const register = (what: number, address: number, count: number) =>
    check(sys.syscall(__NR_io_uring_register, ring.fd, what, address, count, 0, 0), () => `io_uring_register(${what})`);
  const hold = held(
    () => ring.close(),
    () => register(IORING_REGISTER_FILES, fds.address, 1),
  );
  return {
    release: () => {
      register(IORING_UNREGISTER_FILES, 0, 0);
      hold.release();
    },
  };
}

function byEpoll(file: OwnedFd): Hold {
  const epoll = new Epoll();
  return held(
    () => epoll.close(),
    () => epoll.add(file.fd, EPOLLIN, 0),
  );
}
