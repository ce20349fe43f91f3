/**
 * Buffers that clients hold: each is a socket whose other end is here. When the last copy of the client's end is
 * closed, in whatever process, ours reads the end of the stream, and the buffer's descriptor is closed.
 */
import { fstatSync } from 'node:fs';
import { EPOLLIN } from '../abi/poll.ts';
import { MSG_DONTWAIT } from '../abi/socket.ts';
import type { DmaBuf } from '../dma-buf/dma-buf.ts';
import { FdTable } from '../dma-buf/file.ts';
import type { OwnedFd } from '../linux/fd.ts';
import { Pinned, sys } from '../linux/ffi.ts';
import { socketPair } from '../linux/socket.ts';
import { runner } from '../task/runner.ts';
import { type EventLoop, hungUp } from './loop.ts';
import { LIMITS } from './wire.ts';

/** The descriptors of one client. They outlive its connection: whoever got a copy of one keeps the buffer. */
export class ClientFiles extends FdTable {
  constructor() {
    super(LIMITS.maxExports);
  }
}

interface Export {
  readonly ours: OwnedFd;
  readonly files: FdTable;
  readonly fd: number;
  readonly dmabuf: DmaBuf;
  key: number;
}

export class Exports {
  private readonly loop: EventLoop;
  /** By the inode of the client's end, which is that of every copy of it, and of nothing else while one is open. */
  private readonly byInode = new Map<number, Export>();
  private readonly scratch = new Pinned(4096);

  constructor(loop: EventLoop) {
    this.loop = loop;
  }

  get count(): number {
    return this.byInode.size;
  }

  /** The descriptor for the client that stands for descriptor `fd` of its table; the caller sends and closes it. */
  publish(files: FdTable, fd: number): OwnedFd {
    const dmabuf = files.lookup(fd) as DmaBuf;
    const [ours, theirs] = socketPair('dma-buf of a client');
    try {
      const entry: Export = { ours, files, fd, dmabuf, key: 0 };
      const inode = fstatSync(theirs.fd).ino;
      entry.key = this.loop.add(ours.fd, EPOLLIN, (events) => this.onReady(inode, entry, events));
      this.byInode.set(inode, entry);
      return theirs;
    } catch (error) {
      ours.close();
      theirs.close();
      throw error;
    }
  }

  /** The buffer that a descriptor stands for; null for every other kind of descriptor. */
  find(fd: OwnedFd): DmaBuf | null {
    const stat = fstatSync(fd.fd);
    return stat.isSocket() ? (this.byInode.get(stat.ino)?.dmabuf ?? null) : null;
  }

  /** The server ends: every buffer loses its last descriptor. */
  closeAll(): void {
    for (const [inode, entry] of this.byInode) this.drop(inode, entry);
  }

  private onReady(inode: number, entry: Export, events: number): void {
    const received = sys.recv(entry.ours.fd, this.scratch.address, this.scratch.bytes.length, MSG_DONTWAIT);
    if (received === 0 || hungUp(events)) this.drop(inode, entry);
  }

  private drop(inode: number, entry: Export): void {
    this.byInode.delete(inode);
    this.loop.remove(entry.key);
    entry.ours.close();
    runner.start('close dma-buf', entry.files.close(entry.fd));
  }
}
