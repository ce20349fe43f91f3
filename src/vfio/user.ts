/** The process on the other side of a system call: its memory and its descriptors. */
import { Errno } from '../abi/errno.ts';
import { DmaBuf } from '../dma-buf/dma-buf.ts';
import type { FdTable } from '../dma-buf/file.ts';
import { mayFault } from '../task/faults.ts';
import type { Task } from '../task/op.ts';

/** Memory that a user passed by address. Both methods throw EFAULT for unreachable bytes. */
export interface UserMemory {
  /** `length` bytes from `offset`; the result may share memory with the user's. */
  read(offset: number, length: number): Uint8Array;
  /** Stores bytes at `offset`. */
  write(offset: number, bytes: Uint8Array): void;
}

/** A user's argument in a buffer: bytes past its end are unreachable. */
export class BufferMemory implements UserMemory {
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** As `UserMemory.read`, without a copy. */
  read(offset: number, length: number): Uint8Array {
    this.check(offset, length);
    return this.bytes.subarray(offset, offset + length);
  }

  /** As `UserMemory.write`. */
  write(offset: number, bytes: Uint8Array): void {
    this.check(offset, bytes.length);
    this.bytes.set(bytes, offset);
  }

  private check(offset: number, length: number): void {
    mayFault('the argument');
    if (offset + length > this.bytes.length) {
      throw new Errno('EFAULT', `bytes ${offset} to ${offset + length} of an argument of ${this.bytes.length} bytes`);
    }
  }
}

/** eventfd_ctx: an eventfd that an interrupt signals. */
export interface EventSignal {
  /** Adds one to the counter; never blocks. */
  signal(): void;
  /** Drops the reference; the owner of the trigger calls it once. */
  release?(): void;
}

/** An eventfd that the user signals (struct virqfd). */
export interface EventSource {
  /** Stops listening. */
  release(): void;
}

/** The process that makes a call: its descriptor table and its eventfds. */
export interface Caller {
  /** The open descriptors of the process. */
  readonly files: FdTable;
  /**
   * dma_buf_get: the buffer behind a descriptor, with a reference. EBADF where it is not open, EINVAL for others. A
   * caller without it has its buffers in `files`.
   */
  buffer?(fd: number): Task<DmaBuf>;
  /** The eventfd behind a descriptor. EBADF where it is not open, EINVAL where it is not an eventfd. */
  eventSignal(fd: number): EventSignal;
  /** Starts `onSignal` whenever the user signals the eventfd. Errors as `eventSignal`. */
  eventSource(fd: number, onSignal: () => Task): EventSource;
}

/** dma_buf_get in the name of a caller. Errors as `Caller.buffer`. */
export function* bufferOf(caller: Caller, fd: number): Task<DmaBuf> {
  if (caller.buffer !== undefined) return yield* caller.buffer(fd);
  const file = yield* caller.files.get(fd);
  if (file instanceof DmaBuf) return file;
  yield* file.put();
  throw new Errno('EINVAL', `descriptor ${fd} is not a dma-buf`);
}
