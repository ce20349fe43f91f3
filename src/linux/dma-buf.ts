import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  writeSync,
} from 'node:fs';
import {
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
  DMA_BUF_IOCTL_SYNC,
  DMA_BUF_SET_NAME,
  dma_buf_export_sync_file,
  dma_buf_import_sync_file,
  dma_buf_sync,
} from '../abi/dma-buf.ts';
import { Errno } from '../abi/errno.ts';
import { SEEK_END } from '../abi/fcntl.ts';
import { _IO } from '../abi/ioctl.ts';
import { POLLIN, POLLOUT } from '../abi/poll.ts';
import { OwnedFd } from './fd.ts';
import { check, Pinned, sys } from './ffi.ts';
import { Mapping } from './mapping.ts';
import { pollOne } from './poll.ts';

/** The system calls on a dma-buf's descriptor (linux/dma-buf.h). All throw the kernel's errno. */

/**
 * lseek(2) as the kernel answers it. (0, SEEK_END) returns the size in bytes, (0, SEEK_SET) returns 0, and all else is
 * EINVAL.
 */
export function dmaBufSeek(buf: OwnedFd, offset: number, whence: number): number {
  return check(sys.lseek(buf.fd, offset, whence), () => `lseek(${offset}, ${whence}) of ${buf.what}`);
}

export function dmaBufSizeBytes(buf: OwnedFd): number {
  return dmaBufSeek(buf, 0, SEEK_END);
}

/** Sets the name that /proc/PID/fdinfo and /dmabuf:NAME show; at most 31 bytes. */
export function dmaBufSetName(buf: OwnedFd, name: string): void {
  const argument = new Pinned(Buffer.byteLength(name) + 1);
  argument.bytes.write(name);
  check(sys.ioctl(buf.fd, DMA_BUF_SET_NAME, argument.address), () => `DMA_BUF_SET_NAME(${name}) of ${buf.what}`);
}

/** DMA_BUF_SYNC_START or _END with _READ, _WRITE. START waits for fences, without limit. */
export function dmaBufSync(buf: OwnedFd, flags: number): void {
  const argument = new Pinned(dma_buf_sync.sizeof);
  dma_buf_sync.fields.flags.set(argument.view, 0, flags);
  check(
    sys.ioctl(buf.fd, DMA_BUF_IOCTL_SYNC, argument.address),
    () => `DMA_BUF_IOCTL_SYNC(0x${flags.toString(16)}) of ${buf.what}`,
  );
}

/** Returns a sync file of the fences that a reader (DMA_BUF_SYNC_READ) or a writer (_WRITE) would wait for. */
export function dmaBufExportSyncFile(buf: OwnedFd, flags: number): OwnedFd {
  const argument = new Pinned(dma_buf_export_sync_file.sizeof);
  dma_buf_export_sync_file.write(argument.view, 0, { flags, fd: -1 });
  check(
    sys.ioctl(buf.fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, argument.address),
    () => `DMA_BUF_IOCTL_EXPORT_SYNC_FILE(${flags}) of ${buf.what}`,
  );
  return new OwnedFd(dma_buf_export_sync_file.fields.fd.get(argument.view), `sync file of ${buf.what}`);
}

/** Adds the fences of a sync file to the buffer; `syncFile` stays the caller's. */
export function dmaBufImportSyncFile(buf: OwnedFd, flags: number, syncFile: number): void {
  const argument = new Pinned(dma_buf_import_sync_file.sizeof);
  dma_buf_import_sync_file.write(argument.view, 0, { flags, fd: syncFile });
  check(
    sys.ioctl(buf.fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, argument.address),
    () => `DMA_BUF_IOCTL_IMPORT_SYNC_FILE(${flags}, fd ${syncFile}) of ${buf.what}`,
  );
}

/** Readable when no write fence is pending, writable when no fence is. */
export function dmaBufPoll(buf: OwnedFd, timeoutMs = 0): { readable: boolean; writable: boolean } {
  // Poll for them separately: a common poll returns as soon as one of the two is ready.
  const readable = (pollOne(buf.fd, POLLIN, timeoutMs) & POLLIN) !== 0;
  const writable = (pollOne(buf.fd, POLLOUT, timeoutMs) & POLLOUT) !== 0;
  return { readable, writable };
}

/** Returns the lines of /proc/self/fdinfo: pos, flags, mnt_id, ino, size, count, exp_name, name. */
export function dmaBufFdinfo(buf: OwnedFd): Record<string, string> {
  const text = readFileSync(`/proc/self/fdinfo/${buf.fd}`, 'utf8');
  const pairs = text.split('\n').flatMap((line) => {
    const colon = line.indexOf(':');
    return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()]];
  });
  return Object.fromEntries(pairs);
}

/** Returns the target of /proc/self/fd/N: "/dmabuf:NAME". */
export function dmaBufLink(buf: OwnedFd): string {
  return readlinkSync(`/proc/self/fd/${buf.fd}`);
}

/** Makes other system calls on the descriptor, through Node where it has them. */
export function dmaBufFileCall(
  buf: OwnedFd,
  call: 'read' | 'write' | 'ftruncate' | 'reopen' | 'ioctl' | 'stat' | 'link',
): unknown {
  const { fd } = buf;
  const calls = {
    read: () => readSync(fd, Buffer.alloc(1)),
    write: () => writeSync(fd, Buffer.alloc(1)),
    ftruncate: () => ftruncateSync(fd, 4096),
    reopen: () => closeSync(openSync(`/proc/self/fd/${fd}`, 'r')),
    ioctl: () => check(sys.ioctl(fd, _IO(0x62, 0x7f), 0), () => `an unknown ioctl of ${buf.what}`),
    stat: () => {
      const { size, mode } = fstatSync(fd);
      return { size, mode };
    },
    link: () => dmaBufLink(buf),
  };
  try {
    return calls[call]();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (error instanceof Errno || errno === undefined) throw error;
    throw Errno.fromCode(Math.abs(errno), `${call} of ${buf.what}`);
  }
}

/** Tries to map the buffer. Linux 7.3 refuses buffers of a vfio device with EINVAL; those of a dma-heap map. */
export function dmaBufMap(buf: OwnedFd, sizeBytes: number, { offset = 0, isPrivate = false } = {}): Mapping {
  return Mapping.map({ fd: buf.fd, offset, sizeBytes, writable: true, isPrivate, what: buf.what });
}
