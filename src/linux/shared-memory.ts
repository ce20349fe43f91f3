import { ERRNO, Errno } from '../abi/errno.ts';
import type { OwnedFd } from './fd.ts';
import { check, sys } from './ffi.ts';
import { isLocalFile } from './foreign-fd.ts';
import { PAGE_SIZE } from './mapping.ts';
import { fileSizeBytes, sealAgainstShrinking } from './memfd.ts';
import { mapMemory } from './segmented-mapping.ts';

/** Memory that another process shares by a descriptor; the ways to reach it differ, the rules do not. */
export interface SharedMemory {
  readonly sizeBytes: number;
  readonly writable: boolean;
  /** Copies `target.length` bytes from `offset`. EINVAL outside; EIO when the file no longer has them. */
  read(offset: number, target: Uint8Array): void;
  /** Copies `source` to `offset`. EINVAL outside, EACCES when read-only; EIO when the file no longer has the place. */
  write(offset: number, source: Uint8Array): void;
  close(): void;
}

/**
 * Memory of a file through pread(2) and pwrite(2): slower than a mapping (a system call for each access) but immune to
 * a peer that truncates its file, which would kill us with SIGBUS if we had mapped it.
 *
 * It does not promise single accesses: a concurrent writer may be seen half way, also within 4 aligned bytes. Nor that
 * a write which races with the truncation leaves the file short: the check and the write are two calls.
 */
export class FileMemory implements SharedMemory {
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly #fd: OwnedFd;
  readonly #offset: number;

  /** Takes ownership of `fd`. */
  constructor(fd: OwnedFd, offset: number, sizeBytes: number, writable: boolean) {
    this.#fd = fd;
    this.#offset = offset;
    this.sizeBytes = sizeBytes;
    this.writable = writable;
  }

  read(offset: number, target: Uint8Array): void {
    this.#transfer('pread', offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    if (!this.writable) throw new Errno('EACCES', `${this.#fd.what} is read-only`);
    this.#transfer('pwrite', offset, source);
  }

  close(): void {
    this.#fd.close();
  }

  #transfer(call: 'pread' | 'pwrite', offset: number, bytes: Uint8Array): void {
    checkRange(this.#fd.what, offset, bytes.length, this.sizeBytes);
    // pwrite past the end would make the file longer: what the peer cut off must stay cut off.
    if (call === 'pwrite' && fileSizeBytes(this.#fd.fd) < this.#offset + offset + bytes.length) {
      throw shrunk(this.#fd.what, offset, bytes.length);
    }
    for (let done = 0; done < bytes.length; ) {
      const rest = done === 0 ? bytes : bytes.subarray(done);
      const moved = sys[call](this.#fd.fd, rest, rest.length, this.#offset + offset + done);
      if (moved === -ERRNO.EINTR) continue;
      check(moved, () => `${call} of ${this.#fd.what}, ${bytes.length} bytes at ${offset}`);
      if (moved === 0) throw shrunk(this.#fd.what, offset, bytes.length);
      done += moved;
    }
  }
}

function shrunk(what: string, offset: number, length: number): Errno {
  return new Errno('EIO', `${what}: ${length} bytes at ${offset} are past the end of the file; its owner truncated it`);
}

function checkRange(what: string, offset: number, length: number, sizeBytes: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0 || length > sizeBytes - offset) {
    throw new Errno('EINVAL', `${what}: ${length} bytes at ${offset} of ${sizeBytes}`);
  }
}

/**
 * Opens memory that a peer sent, in the safest way that is also the fastest: mapped when the file cannot shrink
 * (sealed, or a memfd that lets us seal it), else by FileMemory. Takes ownership of `fd`, also when it throws. EINVAL
 * when it is no regular file, or one of a file system whose calls wait for somebody (FUSE, NFS, ...), when it is
 * shorter than offset + sizeBytes, or the offset is not page-aligned.
 */
export function openSharedMemory(fd: OwnedFd, offset: number, sizeBytes: number, writable: boolean): SharedMemory {
  try {
    if (!isLocalFile(fd.fd)) throw new Errno('EINVAL', `${fd.what} is no memfd, and no file of a local file system`);
    const fileBytes = fileSizeBytes(fd.fd);
    if (offset % PAGE_SIZE !== 0 || sizeBytes <= 0 || offset + sizeBytes > fileBytes) {
      throw new Errno('EINVAL', `${fd.what}: ${sizeBytes} bytes at ${offset} of a file of ${fileBytes}`);
    }
    if (!sealAgainstShrinking(fd.fd)) return new FileMemory(fd, offset, sizeBytes, writable);
    // Looked at again: it may have shrunk between the first look and the seal.
    if (fileSizeBytes(fd.fd) < offset + sizeBytes) throw shrunk(fd.what, offset, sizeBytes);
    return mapMemory(fd, offset, sizeBytes, writable);
  } catch (error) {
    fd.close();
    throw error;
  }
}
