import { ERRNO } from '../abi/errno.ts';
import {
  F_ADD_SEALS,
  F_GET_SEALS,
  F_GETFL,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  O_ACCMODE,
  O_CLOEXEC,
  O_RDONLY,
  SEEK_DATA,
  SEEK_HOLE,
} from '../abi/fcntl.ts';

import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from '../abi/mman.ts';
import { OwnedFd } from './fd.ts';
import { check, sys } from './ffi.ts';

/**
 * Anonymous memory of `sizeBytes` as a file (memfd_create(2)). It is sealed: no holder of the descriptor can change its
 * size, and a mapping of it never faults with SIGBUS. /proc/PID/maps shows the name; 249 bytes at most.
 */
export function createMemfd(name: string, sizeBytes: number): OwnedFd {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const memfd = new OwnedFd(
    check(sys.memfd_create(name, flags), () => `memfd_create(${name})`),
    `memfd ${name}`,
  );
  try {
    check(sys.ftruncate(memfd.fd, sizeBytes), () => `ftruncate(memfd ${name}, ${sizeBytes})`);
    addSeals(memfd.fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    return memfd;
  } catch (error) {
    memfd.close();
    throw error;
  }
}

/** fcntl(F_ADD_SEALS). EPERM where sealing is closed, EINVAL where the file lacks seals. */
export function addSeals(fd: number, seals: number): void {
  check(sys.fcntl(fd, F_ADD_SEALS, seals), () => `fcntl(${fd}, F_ADD_SEALS, 0x${seals.toString(16)})`);
}

/**
 * Returns the seals of a file; null where its kind lacks them. Only memfds and files of tmpfs and hugetlbfs have seals.
 */
export function sealsOf(fd: number): number | null {
  const seals = sys.fcntl(fd, F_GET_SEALS, 0);
  if (seals === -ERRNO.EINVAL) return null;
  return check(seals, () => `fcntl(${fd}, F_GET_SEALS)`);
}

/** Yields the parts of a file's first `sizeBytes` that have pages (lseek(2), SEEK_DATA). The rest reads as zeros. */
export function* dataExtents(fd: number, sizeBytes: number): Generator<{ offset: number; sizeBytes: number }> {
  for (let at = 0; at < sizeBytes; ) {
    const start = sys.lseek(fd, at, SEEK_DATA);
    if (start === -ERRNO.ENXIO || start >= sizeBytes) return;
    const end = Math.min(
      sizeBytes,
      check(
        sys.lseek(
          fd,
          check(start, () => 'lseek'),
          SEEK_HOLE,
        ),
        () => 'lseek',
      ),
    );
    yield { offset: start, sizeBytes: end - start };
    at = end;
  }
}

/** Opens the same file for reading alone. It cannot be mapped for writing through this descriptor. */
export function reopenReadOnly(fd: number): OwnedFd {
  const path = `/proc/self/fd/${fd}`;
  return new OwnedFd(
    check(sys.open(path, O_RDONLY | O_CLOEXEC), () => `open(${path})`),
    'read-only memfd',
  );
}

/** Whether the descriptor was opened for writing. */
export function isWritable(fd: number): boolean {
  return (check(sys.fcntl(fd, F_GETFL, 0), () => `fcntl(${fd}, F_GETFL)`) & O_ACCMODE) !== O_RDONLY;
}
