/**
 * Descriptors from a peer. The close of a file's last descriptor may take as long as its maker likes. A socket waits
 * for its SO_LINGER, a file of FUSE for its server. Even fstat(2) waits for such a file, so only calls that ask no
 * other process may find out a descriptor's kind.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { F_GET_SEALS } from '../abi/fcntl.ts';
import { MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR } from '../abi/socket.ts';
import { duplicateFd, OwnedFd } from './fd.ts';
import { Pinned, sys } from './ffi.ts';
import { isUnixPacketSocket } from './socket.ts';

/** File systems whose files answer without asking another process. */
const LOCAL = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'bcachefs', 'zfs'],
  ...['overlay', 'tmpfs', 'ramfs', 'hugetlbfs'],
]);

const byte = new Pinned(1);
let closeElsewhere: (fd: number) => void = (fd) => void sys.close(fd);

/** Sets how slow descriptors are closed. By default the caller waits for the close. */
export function setCloser(close: (fd: number) => void): void {
  closeElsewhere = close;
}

export class ForeignFd extends OwnedFd {
  override close(): void {
    if (this.isOpen) closeForeign(this.release());
  }

  override duplicate(what = this.what): ForeignFd {
    return new ForeignFd(duplicateFd(this.fd, what).release(), what);
  }
}

/** Closes it here, or through setCloser's function when that may take long. */
export function closeForeign(fd: number): void {
  if (mayLinger(fd)) closeElsewhere(fd);
  else sys.close(fd);
}

/** Whether closing it may wait. A UNIX socket's close may: unread messages hold descriptors of any kind. */
export function mayLinger(fd: number): boolean {
  return !isShmem(fd) && !isEventfd(fd);
}

/**
 * Ends a connection now. Unread messages of the peer are closed with it, by setCloser's function where there may be
 * any.
 */
export function hangUp(socket: OwnedFd): void {
  sys.shutdown(socket.fd, SHUT_RDWR);
  const fd = socket.release();
  // A zero from packets may be an empty packet. On a stream it means that nothing more can come.
  const isRead = !isUnixPacketSocket(fd) && sys.recv(fd, byte.address, 1, MSG_DONTWAIT | MSG_PEEK) === 0;
  if (isRead) sys.close(fd);
  else closeElsewhere(fd);
}

/** Whether calls on the file end by themselves: it is a memfd, or a file of a local file system. */
export function isLocalFile(fd: number): boolean {
  return isShmem(fd) || LOCAL.has(fileSystemOf(fd) ?? '');
}

export function isEventfd(fd: number): boolean {
  return linkOf(fd) === 'anon_inode:[eventfd]';
}

/** Whether it is a memfd or another file of tmpfs or hugetlbfs. Only these have seals. */
function isShmem(fd: number): boolean {
  return sys.fcntl(fd, F_GET_SEALS, 0) >= 0;
}

function linkOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

/** Returns the type of the mount that the file was opened through; null where this process has no such mount. */
export function fileSystemOf(fd: number): string | null {
  if (!linkOf(fd).startsWith('/')) return null;
  const mount = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${mount} `));
  return line === undefined ? null : (line.split(' - ')[1]?.split(' ')[0] ?? null);
}
