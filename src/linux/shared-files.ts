/**
 * Memory that a peer shares by descriptors. Regions of one file share its mappings: a quarter of a million DMA_MAPs of
 * 4 KiB of one memfd use one mapping.
 */
import { fstatSync, statfsSync } from 'node:fs';
import { Errno } from '../abi/errno.ts';
import { F_ADD_SEALS, F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_WRITE } from '../abi/fcntl.ts';
import { HUGETLBFS_MAGIC } from '../abi/mman.ts';
import type { Memory } from '../pci/memory.ts';
import { beyondLimit } from '../vfio/limit-hits.ts';
import type { OwnedFd } from './fd.ts';
import { sys } from './ffi.ts';
import { fileSystemOf, isLocalFile } from './foreign-fd.ts';
import { PAGE_SIZE } from './mapping.ts';
import { sealsOf } from './memfd.ts';
import { GuardedMemory, MappedMemory } from './placed-memory.ts';
import { MAX_SLOT_BYTES } from './view-slot.ts';

/** A piece of a region, in order. */
export interface MemoryPart {
  readonly memory: Memory;
  /** The offset in `memory`. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Mappings of all owners of this process. */
let mappingsOfAll = 0;

/**
 * The mappings of one owner, which may be in several SharedFiles. The kernel gives a process 65,530 (vm.max_map_count),
 * and one takes up to two of those.
 */
export class MappingBudget {
  private readonly most: number;
  private readonly mostOfAll: number;
  private taken = 0;

  /** `most` limits this owner, `mostOfAll` all owners of this process. */
  constructor(most: number, mostOfAll: number) {
    this.most = most;
    this.mostOfAll = mostOfAll;
  }

  /** Counts one mapping. ENOSPC beyond either limit. */
  take(what: string): void {
    if (this.taken >= this.most || mappingsOfAll >= this.mostOfAll) {
      const counts = `${this.taken} of ${this.most}, ${mappingsOfAll} of ${this.mostOfAll} with those of others`;
      const limit = this.taken >= this.most ? 'maxFileMappings' : 'maxFileMappingsOfAll';
      throw beyondLimit(limit, 'ENOSPC', `${what}: no further file can be mapped: ${counts}`);
    }
    this.taken += 1;
    mappingsOfAll += 1;
  }

  get used(): number {
    return this.taken;
  }

  give(): void {
    this.taken -= 1;
    mappingsOfAll -= 1;
  }
}

/** A mapping of part of a file, kept while regions use it. */
class FileWindow {
  readonly memory: MappedMemory | GuardedMemory;
  /** The window's offset in the file. */
  readonly start: number;
  readonly file: SharedFile;
  users = 0;

  constructor(file: SharedFile, start: number, memory: MappedMemory | GuardedMemory) {
    this.file = file;
    this.start = start;
    this.memory = memory;
  }

  get end(): number {
    return this.start + this.memory.sizeBytes;
  }
}

/** A file with regions. It is dropped with the last of its windows. */
interface SharedFile {
  /** Null where its mappings are not shared. */
  readonly key: string | null;
  readonly writable: boolean;
  /** Whether another process can take its memory away. */
  readonly isGuarded: boolean;
  readonly pageBytes: number;
  /** The latest window of each stretch of the file, by the number of the stretch. */
  readonly windows: Map<number, FileWindow>;
  /** The number of windows, earlier ones included. */
  live: number;
}

/** A descriptor's properties from fcntl and fstat. */
export interface FileFacts {
  /** Names the file among those of this machine; null where its mappings are not shared. */
  readonly key: string | null;
  readonly sizeBytes: number;
  /** It is a memfd, or another file of tmpfs or hugetlbfs, that cannot become shorter. */
  readonly isSealed: boolean;
}

export class SharedFiles {
  private readonly budget: MappingBudget;
  private readonly files = new Map<string, SharedFile>();
  private readonly windows = new Map<Memory, FileWindow>();

  constructor(budget: MappingBudget) {
    this.budget = budget;
  }

  /**
   * Maps memory of a file; the caller gives every part to `release` once. The descriptor stays the caller's, and may be
   * closed afterwards. Seals a memfd against shrinking if it allows seals.
   *
   * EINVAL for anything but a regular file, and for file systems whose calls wait for another process (FUSE, NFS, ...).
   * EINVAL also for a file shorter than offset + sizeBytes, or an offset that is not page-aligned. EPERM for writes to
   * a file sealed against them; ENOSPC beyond the limits; ENOMEM, EACCES and others as mmap(2) says.
   */
  open(fd: OwnedFd, offset: number, sizeBytes: number, writable: boolean): MemoryPart[] {
    const facts = factsOf(fd, writable);
    if (offset % PAGE_SIZE !== 0 || sizeBytes <= 0 || offset + sizeBytes > facts.sizeBytes) {
      throw new Errno('EINVAL', `${fd.what}: ${sizeBytes} bytes at ${offset} of a file of ${facts.sizeBytes}`);
    }
    const file = this.fileOf(fd, facts, writable);
    const parts: MemoryPart[] = [];
    try {
      for (let done = 0; done < sizeBytes; ) {
        const window = this.windowAt(fd, file, offset + done, offset + sizeBytes, facts.sizeBytes);
        const length = Math.min(sizeBytes - done, window.end - offset - done);
        window.users += 1;
        parts.push({ memory: window.memory, offset: offset + done - window.start, sizeBytes: length });
        done += length;
      }
      return parts;
    } catch (error) {
      this.release(parts);
      throw error;
    }
  }

  /**
   * Releases parts; the last part of a mapping unmaps it. All parts are released even when it throws the kernel's
   * errno.
   */
  release(parts: readonly MemoryPart[]): void {
    let failure: unknown;
    for (const { memory } of parts) {
      const window = this.windows.get(memory);
      if (window === undefined) throw new Error('a part of shared memory is given back twice');
      window.users -= 1;
      if (window.users > 0) continue;
      this.forget(window);
      try {
        memory.close();
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  private forget(window: FileWindow): void {
    const { file, memory } = window;
    this.windows.delete(memory);
    this.budget.give();
    const index = Math.floor(window.start / stretchOf(file));
    if (file.windows.get(index) === window) file.windows.delete(index);
    file.live -= 1;
    if (file.live === 0 && file.key !== null) this.files.delete(file.key);
  }

  private fileOf(fd: OwnedFd, { key, isSealed }: FileFacts, writable: boolean): SharedFile {
    const known = key === null ? undefined : this.files.get(key);
    if (known !== undefined) return known;
    const { type, bsize } = statfsSync(`/proc/self/fd/${fd.fd}`);
    const isHuge = type === HUGETLBFS_MAGIC;
    return {
      key,
      writable,
      isGuarded: isHuge || !isSealed,
      pageBytes: isHuge ? bsize : PAGE_SIZE,
      windows: new Map(),
      live: 0,
    };
  }

  /** Returns the window with the byte at `from`, and with those up to `to` that are in its stretch of the file. */
  private windowAt(fd: OwnedFd, file: SharedFile, from: number, to: number, fileBytes: number): FileWindow {
    const stretch = stretchOf(file);
    const index = Math.floor(from / stretch);
    const known = file.windows.get(index);
    if (known !== undefined && known.end >= Math.min(to, (index + 1) * stretch)) return known;
    const start = index * stretch;
    // Stop at the end: mmap of hugetlbfs makes a file longer.
    const end = Math.min(start + stretch, Math.ceil(fileBytes / file.pageBytes) * file.pageBytes);
    const { writable } = file;
    const request = { fd: fd.fd, offset: start, sizeBytes: end - start, writable, what: fd.what };
    this.budget.take(fd.what);
    try {
      const memory = file.isGuarded ? new GuardedMemory(request) : new MappedMemory(request);
      return this.keep(new FileWindow(file, start, memory), index);
    } catch (error) {
      this.budget.give();
      throw error;
    }
  }

  private keep(window: FileWindow, index: number): FileWindow {
    const { file } = window;
    this.windows.set(window.memory, window);
    file.windows.set(index, window);
    file.live += 1;
    if (file.key !== null) this.files.set(file.key, file);
    return window;
  }
}

/** Returns the bytes of a file that one mapping shows. */
function stretchOf({ pageBytes }: SharedFile): number {
  return Math.max(MAX_SLOT_BYTES, pageBytes);
}

/**
 * Looks at a file that a peer sent, and seals a memfd against shrinking if it allows seals. EINVAL for anything but a
 * regular file of a local file system, EPERM for writes to a file sealed against them.
 */
export function factsOf(fd: OwnedFd, writable: boolean): FileFacts {
  const seals = sealsOf(fd.fd);
  // On a file system that asks another process, even fstat may wait.
  if (seals === null && !isLocalFile(fd.fd)) {
    throw new Errno('EINVAL', `${fd.what} is not a memfd, nor a file of a local file system`);
  }
  if (seals !== null && writable && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) {
    throw new Errno('EPERM', `${fd.what} is sealed against writes`);
  }
  const isSealed =
    seals !== null && ((seals & F_SEAL_SHRINK) !== 0 || sys.fcntl(fd.fd, F_ADD_SEALS, F_SEAL_SHRINK) >= 0);
  // Call it after the seal, so that the size stays true.
  const stat = fstatSync(fd.fd);
  if (!stat.isFile()) throw new Errno('EINVAL', `descriptor ${fd.fd} is not a regular file or memfd`);
  // In an overlay, one inode number may stand for two files: before and after the first write.
  const isShared = seals !== null || fileSystemOf(fd.fd) !== 'overlay';
  const key = isShared ? `${stat.dev}:${stat.ino}:${writable ? 'w' : 'r'}` : null;
  return { key, sizeBytes: stat.size, isSealed };
}

/** Whether the file's pages are huge ones: a pool may lack the next, even where the file cannot shrink. */
export function isHugePageFile(fd: OwnedFd): boolean {
  return statfsSync(`/proc/self/fd/${fd.fd}`).type === HUGETLBFS_MAGIC;
}
