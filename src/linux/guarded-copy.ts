/**
 * Copies of memory that may fault, made by the kernel for this process. Its file may be truncated, a page of it may be
 * lost, or a BAR may not decode. A load or store would end the process with SIGBUS; these copies return false. A copy
 * that faults may have moved a part.
 */
import { pid } from 'node:process';
import { ERRNO } from '../abi/errno.ts';
import { iovec } from '../abi/socket.ts';
import { Pinned, retry, sys } from './ffi.ts';
import { socketPair } from './socket.ts';

/** Copies `length` bytes between two addresses; false where one of them faults. */
export type GuardedCopy = (target: number, source: number, length: number) => boolean;

const local = new Pinned(iovec.sizeof);
const remote = new Pinned(iovec.sizeof);

/**
 * process_vm_readv(2) and process_vm_writev(2) on this process. The kernel accesses the local side as any system call's
 * arguments, which works for a device's BAR. It looks up the remote side page by page, where a BAR is EFAULT.
 */
function transfer(call: typeof sys.process_vm_readv, here: number, there: number, length: number): boolean {
  setRange(local, here, length);
  setRange(remote, there, length);
  for (;;) {
    const moved = call(pid, local.address, 1, remote.address, 1, 0);
    if (moved === length) return true;
    if (moved !== -ERRNO.EINTR) return false;
  }
}

function setRange({ view }: Pinned, address: number, length: number): void {
  iovec.fields.iov_base.set(view, 0, address);
  iovec.fields.iov_len.set(view, 0, length);
}

/** The bytes that a pair of sockets takes at once. */
const SOCKET_BYTES = 64 * 1024;
let sockets: ReturnType<typeof socketPair> | null = null;

/**
 * Copies into a socket and out of it: two copies, for systems that refuse the calls above (a seccomp filter, gVisor).
 */
export const copyBySocket: GuardedCopy = (target, source, length) => {
  sockets ??= socketPair('guarded copy');
  const [into, from] = sockets;
  for (let at = 0; at < length; at += SOCKET_BYTES) {
    const bytes = Math.min(SOCKET_BYTES, length - at);
    const sent = retry(() => sys.write(into.fd, source + at, bytes));
    const received = sent > 0 ? retry(() => sys.read(from.fd, target + at, sent)) : 0;
    if (received === bytes) continue;
    // The next copy must not find bytes that stayed in the sockets.
    for (const end of sockets) end.close();
    sockets = null;
    return false;
  }
  return true;
};

let works: boolean | null = null;

/** Returns whether this process may use the calls on itself. Tests it once. */
function callsWork(): boolean {
  if (works !== null) return works;
  const probe = new Pinned(2);
  works = transfer(sys.process_vm_readv, probe.address, probe.address + 1, 1);
  return works;
}

/** Copies from `source`, which may be any memory, a BAR too. `target` may fault, and is memory or a file. */
export const readGuarded: GuardedCopy = (target, source, length) =>
  callsWork() ? transfer(sys.process_vm_writev, source, target, length) : copyBySocket(target, source, length);

/** Copies to `target`, which may be any memory, a BAR too. `source` may fault, and is memory or a file. */
export const writeGuarded: GuardedCopy = (target, source, length) =>
  callsWork() ? transfer(sys.process_vm_readv, target, source, length) : copyBySocket(target, source, length);

/** Between guarded memory and JavaScript arrays, which may move. */
const bounce = new Pinned(64 * 1024);

/** Fills `into` from the memory at `address`. False where a page of it does not answer; a part may have arrived. */
export function readGuardedBytes(address: number, into: Uint8Array): boolean {
  for (let at = 0; at < into.length; at += bounce.bytes.length) {
    const length = Math.min(bounce.bytes.length, into.length - at);
    if (!readGuarded(bounce.address, address + at, length)) return false;
    into.set(bounce.window.at(0, length), at);
  }
  return true;
}

/** Writes `from` to the memory at `address`. False where a page of it does not answer; a part may have arrived. */
export function writeGuardedBytes(address: number, from: Uint8Array): boolean {
  for (let at = 0; at < from.length; at += bounce.bytes.length) {
    const length = Math.min(bounce.bytes.length, from.length - at);
    bounce.bytes.set(length === from.length ? from : from.subarray(at, at + length));
    if (!writeGuarded(address + at, bounce.address, length)) return false;
  }
  return true;
}
