import koffi from 'koffi';
import { ERRNO, Errno } from '../abi/errno.ts';
import { viewOf } from '../abi/layout.ts';

/**
 * The one place that loads libc. Each raw function below returns the result of the system call, or the negative errno,
 * as the kernel does. Hot paths thus need no exception and no allocation. `check` turns a negative result into an Errno
 * that names the call.
 *
 * Pointers are plain numbers (user addresses are below 2^47) or, where the parameter says `Bytes`, a Uint8Array whose
 * memory the call may use until it returns. An address of memory that JavaScript owns comes from `addressOf`.
 */
type Bytes = Uint8Array;
type Raw<A extends unknown[]> = (...args: A) => number;

/** null loads the symbols of the running process, which is linked with its libc: glibc or musl. */
const libc = koffi.load(null);

const intArg = 'int';
const ptrArg = 'uintptr_t';
const bufArg = 'void *';
const sizeArg = 'size_t';
const offArg = 'int64_t';

/** Wraps a libc function that fails with -1 and errno, so that it returns the negative errno. Reads errno at once. */
function raw<A extends unknown[]>(name: string, result: string, parameters: string[]): Raw<A> {
  const call = libc.func(name, result, parameters) as unknown as (...args: Anything[]) => number;
  return wrap(call, parameters.length) as Raw<A>;
}

type Anything = never;
/** One closure per number of parameters: a rest parameter would build an array for each call. */
function wrap(call: (...args: Anything[]) => number, parameters: number): unknown {
  const failed = () => -koffi.errno();
  switch (parameters) {
    case 0:
      return () => negative((call as () => number)());
    case 1:
      return (a: Anything) => negative(call(a));
    case 2:
      return (a: Anything, b: Anything) => negative(call(a, b));
    case 3:
      return (a: Anything, b: Anything, c: Anything) => negative(call(a, b, c));
    case 4:
      return (a: Anything, b: Anything, c: Anything, d: Anything) => negative(call(a, b, c, d));
    case 5:
      return (a: Anything, b: Anything, c: Anything, d: Anything, e: Anything) => negative(call(a, b, c, d, e));
    case 6:
      return (a: Anything, b: Anything, c: Anything, d: Anything, e: Anything, f: Anything) =>
        negative(call(a, b, c, d, e, f));
    case 7:
      return (a: Anything, b: Anything, c: Anything, d: Anything, e: Anything, f: Anything, g: Anything) =>
        negative(call(a, b, c, d, e, f, g));
    default:
      throw new Error(`ffi: no wrapper for ${parameters} parameters`);
  }
  function negative(result: number): number {
    return result === -1 ? failed() : result;
  }
}

type ProcessVm = [pid: number, local: number, locals: number, remote: number, remotes: number, flags: number];
const PROCESS_VM = [intArg, ptrArg, 'ulong', ptrArg, 'ulong', 'ulong'];

export const sys = {
  open: raw<[path: string, flags: number]>('open', 'int', ['str', intArg]),
  close: raw<[fd: number]>('close', 'int', [intArg]),
  read: raw<[fd: number, address: number, length: number]>('read', 'int64_t', [intArg, ptrArg, sizeArg]),
  write: raw<[fd: number, address: number, length: number]>('write', 'int64_t', [intArg, ptrArg, sizeArg]),
  pread: raw<[fd: number, target: Bytes, length: number, offset: number]>('pread64', 'int64_t', [
    intArg,
    bufArg,
    sizeArg,
    offArg,
  ]),
  pwrite: raw<[fd: number, source: Bytes, length: number, offset: number]>('pwrite64', 'int64_t', [
    intArg,
    bufArg,
    sizeArg,
    offArg,
  ]),
  lseek: raw<[fd: number, offset: number, whence: number]>('lseek64', 'int64_t', [intArg, offArg, intArg]),
  flock: raw<[fd: number, operation: number]>('flock', 'int', [intArg, intArg]),
  ftruncate: raw<[fd: number, length: number]>('ftruncate64', 'int', [intArg, offArg]),
  /** The third argument of fcntl, ioctl is variadic in C; on the 64-bit ABIs here it is passed like any other. */
  fcntl: raw<[fd: number, command: number, argument: number]>('fcntl', 'int', [intArg, intArg, 'long']),
  ioctl: raw<[fd: number, request: number, address: number]>('ioctl', 'int', [intArg, 'ulong', ptrArg]),
  memfd_create: raw<[name: string, flags: number]>('memfd_create', 'int', ['str', 'uint']),
  eventfd: raw<[initial: number, flags: number]>('eventfd', 'int', ['uint', intArg]),
  mmap: raw<[address: number, length: number, protection: number, flags: number, fd: number, offset: number]>(
    'mmap64',
    'intptr_t',
    [ptrArg, sizeArg, intArg, intArg, intArg, offArg],
  ),
  munmap: raw<[address: number, length: number]>('munmap', 'int', [ptrArg, sizeArg]),
  mremap: raw<[address: number, oldLength: number, newLength: number, flags: number, newAddress: number]>(
    'mremap',
    'intptr_t',
    [ptrArg, sizeArg, sizeArg, intArg, ptrArg],
  ),
  process_vm_readv: raw<ProcessVm>('process_vm_readv', 'int64_t', PROCESS_VM),
  process_vm_writev: raw<ProcessVm>('process_vm_writev', 'int64_t', PROCESS_VM),
  mprotect: raw<[address: number, length: number, protection: number]>('mprotect', 'int', [ptrArg, sizeArg, intArg]),
  getpagesize: raw<[]>('getpagesize', 'int', []),
  madvise: raw<[address: number, length: number, advice: number]>('madvise', 'int', [ptrArg, sizeArg, intArg]),
  socket: raw<[domain: number, type: number, protocol: number]>('socket', 'int', [intArg, intArg, intArg]),
  socketpair: raw<[domain: number, type: number, protocol: number, pair: Bytes]>('socketpair', 'int', [
    intArg,
    intArg,
    intArg,
    bufArg,
  ]),
  bind: raw<[fd: number, address: Bytes, length: number]>('bind', 'int', [intArg, bufArg, 'uint']),
  connect: raw<[fd: number, address: Bytes, length: number]>('connect', 'int', [intArg, bufArg, 'uint']),
  listen: raw<[fd: number, backlog: number]>('listen', 'int', [intArg, intArg]),
  accept4: raw<[fd: number, address: number, length: number, flags: number]>('accept4', 'int', [
    intArg,
    ptrArg,
    ptrArg,
    intArg,
  ]),
  shutdown: raw<[fd: number, how: number]>('shutdown', 'int', [intArg, intArg]),
  getsockopt: raw<[fd: number, level: number, option: number, value: Bytes, length: Bytes]>('getsockopt', 'int', [
    intArg,
    intArg,
    intArg,
    bufArg,
    bufArg,
  ]),
  setsockopt: raw<[fd: number, level: number, option: number, value: Bytes, length: number]>('setsockopt', 'int', [
    intArg,
    intArg,
    intArg,
    bufArg,
    'uint',
  ]),
  recv: raw<[fd: number, address: number, length: number, flags: number]>('recv', 'int64_t', [
    intArg,
    ptrArg,
    sizeArg,
    intArg,
  ]),
  send: raw<[fd: number, address: number, length: number, flags: number]>('send', 'int64_t', [
    intArg,
    ptrArg,
    sizeArg,
    intArg,
  ]),
  recvmsg: raw<[fd: number, msghdr: number, flags: number]>('recvmsg', 'int64_t', [intArg, ptrArg, intArg]),
  sendmsg: raw<[fd: number, msghdr: number, flags: number]>('sendmsg', 'int64_t', [intArg, ptrArg, intArg]),
  poll: raw<[pollfds: number, count: number, timeoutMs: number]>('poll', 'int', [ptrArg, 'ulong', intArg]),
  epoll_create1: raw<[flags: number]>('epoll_create1', 'int', [intArg]),
  epoll_ctl: raw<[epfd: number, operation: number, fd: number, event: number]>('epoll_ctl', 'int', [
    intArg,
    intArg,
    intArg,
    ptrArg,
  ]),
  epoll_wait: raw<[epfd: number, events: number, max: number, timeoutMs: number]>('epoll_wait', 'int', [
    intArg,
    ptrArg,
    intArg,
    intArg,
  ]),
  prlimit: raw<[pid: number, resource: number, newLimit: number, oldLimit: number]>('prlimit64', 'int', [
    intArg,
    intArg,
    ptrArg,
    ptrArg,
  ]),
  sched_setaffinity: raw<[pid: number, sizeBytes: number, mask: Bytes]>('sched_setaffinity', 'int', [
    intArg,
    sizeArg,
    bufArg,
  ]),
  /** For calls without a libc function, or without one in every libc. Pass 0 for unused arguments. */
  syscall: raw<[number: number, a: number, b: number, c: number, d: number, e: number, f: number]>('syscall', 'long', [
    'long',
    'long',
    'long',
    'long',
    'long',
    'long',
    'long',
  ]),
  /** These four return a positive errno. */
  pthread_attr_init: raw<[attributes: number]>('pthread_attr_init', 'int', [ptrArg]),
  pthread_attr_setstacksize: raw<[attributes: number, sizeBytes: number]>('pthread_attr_setstacksize', 'int', [
    ptrArg,
    sizeArg,
  ]),
  /** `start` is the address of a C function of one argument; addressOfSymbol returns it. */
  pthread_create: raw<[thread: number, attributes: number, start: number, argument: number]>('pthread_create', 'int', [
    ptrArg,
    ptrArg,
    ptrArg,
    ptrArg,
  ]),
  pthread_tryjoin_np: raw<[thread: number, result: number]>('pthread_tryjoin_np', 'int', [ptrArg, ptrArg]),
  memcpy: raw<[target: number, source: number, length: number]>('memmove', 'uintptr_t', [ptrArg, ptrArg, sizeArg]),
};

/** The same call in a thread of libuv's pool. Returns -1 for an error; its errno is that thread's, and is lost. */
const epollWait = libc.func('epoll_wait', 'int', [intArg, ptrArg, intArg, intArg]);

export function epollWaitAsync(epfd: number, events: number, max: number, timeoutMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    epollWait.async(epfd, events, max, timeoutMs, (error: Error | null, result: number) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}

const dlsym = libc.func('dlsym', ptrArg, [ptrArg, 'str']) as unknown as (handle: number, name: string) => number;

/** Returns the address of a libc function, for calls that want a pointer to one. */
export function addressOfSymbol(name: string): number {
  return dlsym(0, name);
}

/**
 * Returns `result` when it is not negative. Otherwise throws its Errno, as "CALL(arguments)". `describe` is a function
 * so that success formats nothing.
 */
export function check(result: number, describe: () => string): number {
  if (result < 0) {
    const what = describe();
    throw Errno.fromCode(-result, what, syscallOf(what));
  }
  return result;
}

/** Returns the call that a description begins with, or the name of an ioctl, which is in capitals. */
function syscallOf(what: string): string | undefined {
  const name = /^\w+(?=\(| of |$)/.exec(what)?.[0];
  return name !== undefined && name === name.toUpperCase() ? 'ioctl' : name;
}

/** Repeats a call until no signal interrupts it (EINTR); for calls without a timeout. */
export function retry(call: () => number): number {
  let result = call();
  while (result === -ERRNO.EINTR) result = call();
  return result;
}

/**
 * Zeroed memory outside the JavaScript heap. Its address does not change while the returned bytes are referenced. (A
 * small typed array may live inside the heap and move.)
 */
export function pinnedBytes(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(Math.max(length, 1)), 0, length);
}

/** Parts of `bytes`. The same request again returns the same view, so that repeated accesses make no views. */
export class Window {
  readonly #bytes: Uint8Array;
  #last: Uint8Array;
  #lastOffset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#last = bytes;
  }

  at(offset: number, length: number): Uint8Array {
    if (this.#last.length !== length || this.#lastOffset !== offset) {
      this.#last = this.#bytes.subarray(offset, offset + length);
      this.#lastOffset = offset;
    }
    return this.#last;
  }
}

/** Pinned memory with its address. Keep the object, not only the number: the memory is freed with the object. */
export class Pinned {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly address: number;
  readonly window: Window;

  constructor(length: number) {
    this.bytes = pinnedBytes(length);
    this.view = viewOf(this.bytes);
    this.address = addressOf(this.bytes);
    this.window = new Window(this.bytes);
  }
}

/** Returns the address of bytes from `pinnedBytes`. The caller keeps them referenced while the address is in use. */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes));
}

/**
 * An ArrayBuffer over memory that JavaScript does not own. Node frees its bookkeeping (2 KiB) only when its event loop
 * turns. A serving thread never turns that loop: use MappedMemory there, which does not make a buffer for each mapping.
 */
export function externalBuffer(address: number, length: number): ArrayBuffer {
  return koffi.view(BigInt(address), length);
}
