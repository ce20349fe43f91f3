import { readFileSync } from 'node:fs';
import { __NR_pidfd_open } from '../abi/pidfd.ts';
import { OwnedFd } from './fd.ts';
import { check, Pinned, pinnedBytes, sys } from './ffi.ts';

/** sys/resource.h: the limit on open descriptors, so that tests can meet EMFILE. */
const RLIMIT_NOFILE = 7;
const RLIMIT_SIZE = 16;

/** The soft and hard limit on open descriptors of this process. */
export function openFilesLimit(): { soft: number; hard: number } {
  const limit = new Pinned(RLIMIT_SIZE);
  check(sys.prlimit(0, RLIMIT_NOFILE, 0, limit.address), () => 'prlimit(RLIMIT_NOFILE)');
  return { soft: Number(limit.view.getBigUint64(0, true)), hard: Number(limit.view.getBigUint64(8, true)) };
}

/** Sets the soft limit on open descriptors and returns the one before. It holds for the whole process. */
export function setOpenFilesLimit(soft: number): number {
  const before = openFilesLimit();
  const limit = new Pinned(RLIMIT_SIZE);
  limit.view.setBigUint64(0, BigInt(soft), true);
  limit.view.setBigUint64(8, BigInt(before.hard), true);
  check(sys.prlimit(0, RLIMIT_NOFILE, limit.address, 0), () => `prlimit(RLIMIT_NOFILE, ${soft})`);
  return before.soft;
}

/**
 * A descriptor that is readable when the process has ended (pidfd_open(2)). Null where it has ended, or before Linux
 * 5.3.
 */
export function openPidfd(pid: number): OwnedFd | null {
  const fd = sys.syscall(__NR_pidfd_open, pid, 0, 0, 0, 0, 0);
  return fd < 0 ? null : new OwnedFd(fd, `process ${pid}`);
}

/** Binds the calling thread to CPUs below 1024. EINVAL when none of them exists or is allowed. */
export function setAffinity(cpus: readonly number[]): void {
  const mask = pinnedBytes(128);
  for (const cpu of cpus) mask[cpu >> 3] |= 1 << (cpu & 7);
  check(sys.sched_setaffinity(0, mask.length, mask), () => `sched_setaffinity(${cpus.join(',')})`);
}

/** /proc/PID/stat: the process frees its memory, and then closes its descriptors. */
const PF_EXITING = 0x4;

/** Whether a process ends, or has ended. A process of another pid namespace has number 0, and counts as alive. */
export function isExiting(pid: number): boolean {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return pid > 0;
  }
  // The name in parentheses may contain any character.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' || (Number(fields[6]) & PF_EXITING) !== 0;
}
