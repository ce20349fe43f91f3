/** struct file and the descriptors that name it, as far as dma-bufs and sync files need them. */
import { Errno } from '../abi/errno.ts';
import { Cell, Refcount } from '../task/cell.ts';
import { Lifetime, type Task } from '../task/op.ts';
import { spawn } from '../task/runner.ts';

/**
 * An open file. The last reference runs `release` in the task that dropped it. Between the moment the count reaches
 * zero and the end of `release` the file is dead but still listed by its owner: `tryGet` is how others find out.
 */
export abstract class File {
  readonly count: Refcount;
  readonly lifetime: Lifetime;

  constructor(label: string) {
    this.lifetime = new Lifetime(label);
    // May be asked for after the file's end, as Linux's files may (SLAB_TYPESAFE_BY_RCU): `tryGet` then says no.
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
  *put(): Task {
    if (yield* this.count.put()) yield* this.releaseAndEnd();
  }

  /**
   * fput as the kernel means it: the release runs later, as a task of its own. For those who hold a lock that it takes.
   */
  *putDeferred(): Task {
    if (yield* this.count.put()) yield* spawn('fput', this.releaseAndEnd());
  }

  protected abstract release(): Task<void>;

  private *releaseAndEnd(): Task {
    yield* this.release();
    this.lifetime.end();
  }
}

const next = (count: number): number => count + 1;

/**
 * The descriptors of one process. A descriptor holds one reference; whoever shares the table may close any of them at
 * any time, so a file must be complete before `install`.
 */
export class FdTable {
  /** RLIMIT_NOFILE: how many descriptors may be open; setrlimit changes it at any time. */
  limit: number;
  private readonly files = new Map<number, File>();
  /** Counts changes. */
  private readonly changed = new Cell('files_struct', 0);
  private lowestFree = 0;

  constructor(limit = 1024 * 1024) {
    this.limit = limit;
  }

  get openCount(): number {
    return this.files.size;
  }

  /** get_unused_fd_flags and fd_install: takes over the caller's reference. EMFILE when the table is full. */
  *install(file: File): Task<number> {
    // First the step, then what it does: others see both at once.
    yield* this.changed.update(next);
    let fd = this.lowestFree;
    while (this.files.has(fd)) fd += 1;
    if (fd >= this.limit) throw new Errno('EMFILE', `all ${this.limit} descriptors are in use`);
    this.files.set(fd, file);
    this.lowestFree = fd + 1;
    return fd;
  }

  /** The file behind a descriptor. EBADF where there is none. The reference stays the table's. */
  lookup(fd: number): File {
    const file = this.files.get(fd);
    if (file === undefined) throw new Errno('EBADF', `descriptor ${fd} is not open`);
    return file;
  }

  /** fget: looks a descriptor up and takes a reference, so that a concurrent close cannot free the file. */
  *get(fd: number): Task<File> {
    for (;;) {
      yield* this.changed.load();
      const file = this.lookup(fd);
      // A close may have come between: then the descriptor is gone too, or another file's.
      if (yield* file.tryGet()) return file;
    }
  }

  /** close(2). EBADF where there is no such descriptor. */
  *close(fd: number): Task {
    yield* this.changed.update(next);
    const file = this.lookup(fd);
    this.files.delete(fd);
    if (fd < this.lowestFree) this.lowestFree = fd;
    yield* file.put();
  }

  /** What the exit of a process does. */
  *closeAll(): Task {
    for (const fd of [...this.files.keys()]) yield* this.close(fd);
  }
}
