/**
 * Descriptors that a peer sent. The close of the last descriptor of a file may take as long as its maker likes: a
 * socket waits for what SO_LINGER says, a file of FUSE for its server. Of such a file even fstat(2) waits: only calls
 * that ask nobody may find out what a descriptor is.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { F_GET_SEALS } from '../abi/fcntl.ts';
import { MSG_DONTWAIT, MSG_PEEK, SHUT_RDWR } from '../abi/socket.ts';
import { duplicateFd, OwnedFd } from './fd.ts';
import { Pinned, sys } from './ffi.ts';
import { isUnixPacketSocket } from './socket.ts';

/** File systems whose files answer without asking anybody else. */
const LOCAL = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'bcachefs', 'zfs'],
  ...['overlay', 'tmpfs', 'ramfs', 'hugetlbfs'],
]);

const byte = new Pinned(1);
let closeElsewhere: (fd: number) => void = (fd) => void sys.close(fd);

/** How descriptors are closed that may take long: by default here, while the caller waits. */
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

/** Closes it here, or as setCloser said when that may take long. */
export function closeForeign(fd: number): void {
  if (mayLinger(fd)) closeElsewhere(fd);
  else sys.close(fd);
}

/** Whether closing it may wait. A UNIX socket may: messages that nobody read hold descriptors of any kind. */
export function mayLinger(fd: number): boolean {
  return !isShmem(fd) && !isEventfd(fd);
}

/** Ends a connection now. What the peer sent and nobody read is closed with it, and where there is some, elsewhere. */
export function hangUp(socket: OwnedFd): void {
  sys.shutdown(socket.fd, SHUT_RDWR);
  const fd = socket.release();
  // Of packets, an empty one looks like the end; a stream has none, and nothing more can come now.
  const isRead = !isUnixPacketSocket(fd) && sys.recv(fd, byte.address, 1, MSG_DONTWAIT | MSG_PEEK) === 0;
  if (isRead) sys.close(fd);
  else closeElsewhere(fd);
}

/** Whether calls on the file end by themselves: a memfd, or a file of a local file system. */
export function isLocalFile(fd: number): boolean {
  return isShmem(fd) || LOCAL.has(fileSystemOf(fd) ?? '');
}

export function isEventfd(fd: number): boolean {
  return linkOf(fd) === 'anon_inode:[eventfd]';
}

/** A memfd, or another file of tmpfs or hugetlbfs: no others know seals. */
function isShmem(fd: number): boolean {
  return sys.fcntl(fd, F_GET_SEALS, 0) >= 0;
}

function linkOf(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

/** The type of the mount that the file was opened through; null where this process has no such mount. */
export function fileSystemOf(fd: number): string | null {
  if (!linkOf(fd).startsWith('/')) return null;
  const mount = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${mount} `));
  return line === undefined ? null : (line.split(' - ')[1]?.split(' ')[0] ?? null);
}
