/** struct file and the descriptors that name it, as far as dma-bufs and sync files need them. */
import { Errno } from '../abi/errno.ts';
import { Cell } from '../task/cell.ts';
import { mayLackMemory } from '../task/faults.ts';
import { Lifetime } from '../task/lifetime.ts';
import type { Task } from '../task/op.ts';
import { Refcount } from '../task/refcount.ts';
import { spawn } from '../task/runner.ts';

/**
 * An open file. The task that drops the last reference runs `release`. From then until `release` ends, the file is dead
 * but its owner still lists it: other tasks must use `tryGet` to find out.
 */
export abstract class File {
  /** f_count: one reference for each descriptor and each user in the kernel. */
  readonly count: Refcount;
  /** Ends when `release` has run. Later operations on the file fail. */
  readonly lifetime: Lifetime;
  /** The last reference releases the file, whatever names its path. If false, the path's last holder does. */
  private readonly releasesAtLastPut: boolean;
  /** O_PATH descriptors: they hold the path, which is not a reference to the file. */
  private pathHolders = 0;
  private isDead = false;

  constructor(label: string, releasesAtLastPut = true) {
    this.lifetime = new Lifetime(label);
    this.releasesAtLastPut = releasesAtLastPut;
    // May be asked for after the file's end, as in Linux (SLAB_TYPESAFE_BY_RCU): `tryGet` then returns false.
    this.count = new Refcount('f_count');
  }

  /** get_file: the caller holds a reference already. */
  get(): Task<void> {
    return this.count.get();
  }

  /** get_file_active: false when the last reference is gone and release runs or is about to. */
  tryGet(): Task<boolean> {
    return this.count.tryGet();
  }

  /** fput: drops a reference; the last one releases. */
  put(): Task {
    return this.releaseIf(this.count.put());
  }

  /** fput as in the kernel: the release runs later, as a separate task. For callers that hold a lock that it takes. */
  putDeferred(): Task {
    return this.releaseLaterIf(this.count.put());
  }

  /** An open of the file's path with O_PATH. The caller holds a reference. */
  holdPath(): void {
    this.pathHolders += 1;
  }

  /** The close of an O_PATH descriptor. */
  *putPath(): Task {
    this.pathHolders -= 1;
    if (this.isDead && this.pathHolders === 0 && !this.releasesAtLastPut) yield* this.releaseAndEnd();
  }

  protected abstract release(): Task<void>;

  private *releaseIf(isLast: Task<boolean>): Task {
    if ((yield* isLast) && this.die()) yield* this.releaseAndEnd();
  }

  private *releaseLaterIf(isLast: Task<boolean>): Task {
    if ((yield* isLast) && this.die()) yield* spawn('fput', this.releaseAndEnd());
  }

  /** Notes that the last reference is gone. Returns whether the caller releases the file. */
  private die(): boolean {
    this.isDead = true;
    return this.pathHolders === 0 || this.releasesAtLastPut;
  }

  private *releaseAndEnd(): Task {
    yield* this.release();
    this.lifetime.end();
  }
}

/** The files of a table by descriptor. */
class DescriptorCell extends Cell<Map<number, File>> {
  constructor() {
    super('files_struct', new Map());
  }

  override describe(): string {
    return `${this.value.size} open`;
  }
}

/**
 * The descriptors of one process. A descriptor holds one reference. Any task that shares the table may close a
 * descriptor at any time, so a file must be complete before `install`.
 */
export class FdTable {
  /** RLIMIT_NOFILE: how many descriptors may be open; setrlimit changes it at any time. */
  limit: number;
  private readonly files = new DescriptorCell();
  private lowestFree = 0;

  constructor(limit = 1024 * 1024) {
    this.limit = limit;
  }

  /** How many descriptors are open. */
  get openCount(): number {
    return this.files.value.size;
  }

  /** get_unused_fd_flags and fd_install: takes over the caller's reference. EMFILE when the table is full, ENOMEM. */
  *install(file: File): Task<number> {
    mayLackMemory('files_struct');
    const fd = yield* this.files.changeFor((files) => {
      let free = this.lowestFree;
      while (files.has(free)) free += 1;
      if (free >= this.limit) return -1;
      files.set(free, file);
      this.lowestFree = free + 1;
      return free;
    });
    if (fd < 0) throw new Errno('EMFILE', `all ${this.limit} descriptors are in use`);
    return fd;
  }

  /**
   * The file behind a descriptor. Use only where no task can close it meanwhile: the table keeps the reference. EBADF
   * where there is none.
   */
  lookup(fd: number): File {
    return open(this.files.value.get(fd), fd);
  }

  /** fget: looks a descriptor up and takes a reference, so that a concurrent close cannot free the file. EBADF. */
  *get(fd: number): Task<File> {
    for (;;) {
      const file = open(yield* this.files.loadFor((files) => files.get(fd)), fd);
      // A close may have come in between: then the descriptor is gone too, or names another file.
      if (yield* file.tryGet()) return file;
    }
  }

  /** close(2). EBADF where there is no such descriptor. */
  *close(fd: number): Task {
    const file = yield* this.files.changeFor((files) => {
      const found = files.get(fd);
      files.delete(fd);
      if (fd < this.lowestFree && found !== undefined) this.lowestFree = fd;
      return found;
    });
    yield* open(file, fd).put();
  }

  /** Closes all descriptors, as the exit of a process does. */
  *closeAll(): Task {
    for (const fd of [...this.files.value.keys()]) yield* this.close(fd);
  }
}

function open(file: File | undefined, fd: number): File {
  if (file === undefined) throw new Errno('EBADF', `descriptor ${fd} is not open`);
  return file;
}
