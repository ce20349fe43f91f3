/** Descriptors to send. The pool keeps and drops the server's descriptors as they come. */
import { ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ioat_dma_descriptor } from '../../src/abi/ioat.ts';
import { createEventfd } from '../../src/linux/eventfd.ts';
import { OwnedFd } from '../../src/linux/fd.ts';
import { createMemfd } from '../../src/linux/memfd.ts';
import type { FdKind } from './messages.ts';
import { FuzzRandom } from './random.ts';

/** The pages that clients map at 0. After them comes as much memory that is reached by messages. */
export const MAPPED_PAGES = 32;
const PAGE = 4096;
const MAX_LENT = 32;

export class FdPool {
  private readonly lent: OwnedFd[] = [];
  private readonly folder = mkdtempSync(join(tmpdir(), 'barter-fuzz-'));
  private readonly own: Record<Exclude<FdKind, 'dma-buf'>, OwnedFd>;
  private next = 0;

  constructor() {
    const file = new OwnedFd(openSync(join(this.folder, 'file'), 'w+'), 'file');
    ftruncateSync(file.fd, 16 * PAGE);
    this.own = {
      memfd: createMemfd('fuzz', 64 * PAGE),
      file,
      eventfd: createEventfd('fuzz'),
      null: new OwnedFd(openSync('/dev/null', 'r+'), 'null'),
    };
    for (const fd of [this.own.memfd, file]) writeSync(fd.fd, descriptors(new FuzzRandom(2), PAGE));
  }

  fd(kind: FdKind): number {
    if (kind !== 'dma-buf') return this.own[kind].fd;
    this.next += 1;
    return this.lent.length === 0 ? this.own.memfd.fd : this.lent[this.next % this.lent.length].fd;
  }

  /** Takes ownership of a descriptor that the server sent. */
  keep(fd: OwnedFd): void {
    this.lent.push(fd);
    if (this.lent.length > MAX_LENT) this.lent.shift()!.close();
  }

  close(): void {
    for (const fd of [...this.lent, ...Object.values(this.own)]) fd.close();
    rmSync(this.folder, { recursive: true });
  }
}

/** The engine's descriptors, in chains: copies between all of a client's memory, mapped or not, and beyond it. */
export function descriptors(random: FuzzRandom, sizeBytes: number): Buffer {
  const count = Math.floor(sizeBytes / ioat_dma_descriptor.sizeof);
  const address = () => PAGE * random.below(2 * MAPPED_PAGES + 4) + 64 * random.below(4);
  const parts = Array.from({ length: count }, () =>
    ioat_dma_descriptor.encode({
      size: random.chance(20) ? random.bits() >>> 0 : 1 + random.below(9000),
      ctl: random.pick([0, 0, 0, 8, 9, 1, 0x20, random.bits() >>> 0]),
      src_addr: address(),
      dst_addr: address(),
      next: random.chance(10) ? address() : ioat_dma_descriptor.sizeof * random.below(64),
    }),
  );
  return Buffer.concat([...parts, Buffer.alloc(sizeBytes - count * ioat_dma_descriptor.sizeof)]);
}
