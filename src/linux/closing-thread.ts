/**
 * close(2) in a thread of its own, which no other thread joins. libuv has four threads, and a process does not end
 * before they are done. Closes that never end would hold up all others, and the end of the process. A libc thread ends
 * with the process.
 */
import { ERRNO } from '../abi/errno.ts';
import { addressOfSymbol, Pinned, sys } from './ffi.ts';

/** The stack of a thread that makes one system call, with the TLS of all libraries. */
const STACK_BYTES = 256 * 1024;
/** pthread_attr_t: 56 or 64 bytes. */
const ATTRIBUTES_BYTES = 128;

const thread = new Pinned(8);
const closing = new Set<bigint>();
/** Descriptors that wait for a thread. */
let waiting: number[] = [];
let attributes: Pinned | null = null;

/** Closes `fd` in a thread of its own. Without room for a thread, it does so as soon as there is some. */
export function closingThread(fd: number): void {
  reap();
  waiting.push(fd);
  waiting = waiting.filter((each) => !start(each));
}

/** Returns the number of closes that are not over. */
export function closingCount(): number {
  reap();
  return closing.size + waiting.length;
}

function start(fd: number): boolean {
  attributes ??= smallThread();
  if (sys.pthread_create(thread.address, attributes.address, addressOfSymbol('close'), fd) !== 0) return false;
  closing.add(thread.view.getBigUint64(0, true));
  return true;
}

function smallThread(): Pinned {
  const made = new Pinned(ATTRIBUTES_BYTES);
  sys.pthread_attr_init(made.address);
  sys.pthread_attr_setstacksize(made.address, STACK_BYTES);
  return made;
}

function reap(): void {
  for (const id of closing) if (sys.pthread_tryjoin_np(Number(id), 0) !== ERRNO.EBUSY) closing.delete(id);
}
