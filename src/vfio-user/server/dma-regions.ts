/** What a client said its memory is: DMA_MAP and DMA_UNMAP, and the address space that they fill for the device. */
import { Errno } from '../../abi/errno.ts';
import { PAGE_SIZE } from '../../abi/mman.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../abi/vfio-type1.ts';
import { VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from '../../abi/vfio-user.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { IommuDomain } from '../../iommu/domain.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { isWritable } from '../../linux/memfd.ts';
import { SEGMENT_BYTES } from '../../linux/segmented-mapping.ts';
import { FileMemory, openSharedMemory, type SharedMemory } from '../../linux/shared-memory.ts';
import { isUnixPacketSocket } from '../../linux/socket.ts';
import { IOMMU_READ, IOMMU_WRITE, type RemoteMemory } from '../../pci/dma.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';
import { Ioas } from '../../vfio/ioas.ts';
import type { BorrowedBuffer } from '../dma-buf/borrowed-buffer.ts';
import { LIMITS } from '../wire/frame.ts';

/** What a client may map, as VERSION agreed. */
export interface DmaLimits {
  maxDmaMaps: number;
  /** Everything in DMA_MAP is a multiple of it. */
  pageBytes: number;
}

const ACCESS = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;
const ADDRESS_END = 2 ** 52;
/** So many regions are let go in one go; then others are served. */
const RELEASE_BATCH = 64;

/** What the regions of every client of this process take of its mappings. */
let mappedOfAll = 0;

/** struct vfio_user_dma_map, in plain numbers. */
export interface DmaMapRequest {
  flags: number;
  /** In the file of the descriptor. */
  offset: number;
  iova: number;
  sizeBytes: number;
}

/**
 * One DMA_MAP. `memory` and `borrowed` are ours to close; a lent buffer is held by the IOAS, memory without descriptor
 * by nobody.
 */
interface Region {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly kind: 'memory' | 'buffer' | 'borrowed' | 'remote';
  readonly memory: SharedMemory | null;
  readonly borrowed?: { readonly buffer: BorrowedBuffer; readonly memories: readonly SharedMemory[] };
}

/** What a descriptor may stand for beside memory. */
export interface LentBuffers {
  /** The dma-buf of this process; null where it is none. */
  find(fd: OwnedFd): DmaBuf | null;
  /** A session with the exporter of a dma-buf of another process; `onLost` as in BorrowedBuffer. */
  borrow(fd: OwnedFd, onLost: () => void): BorrowedBuffer;
}

/**
 * The I/O address space of one client. Ordinary memory is mapped and stays until DMA_UNMAP; a lent buffer, of this
 * process or another, follows its exporter: a revoke takes its translations out for good, and the place stays taken
 * until DMA_UNMAP.
 */
export class DmaRegions {
  readonly domain: IommuDomain;
  private readonly ioas = new Ioas({ severalRanges: true });
  private readonly remote: RemoteMemory;
  private readonly buffers: LentBuffers;
  /** In order of IOVA; none overlaps another. */
  private readonly regions: Region[] = [];
  private readonly limits: DmaLimits;
  /** What the regions here take of the process's mappings and descriptors. */
  private mapped = 0;
  private files = 0;
  private borrowed = 0;

  constructor(name: string, remote: RemoteMemory, buffers: LentBuffers, limits: DmaLimits) {
    this.domain = new IommuDomain(`client of ${name}`, { ownsBus: true });
    this.remote = remote;
    this.buffers = buffers;
    this.limits = limits;
  }

  get count(): number {
    return this.regions.length;
  }

  *start(): Task {
    yield* this.ioas.attachDomain(this.domain);
  }

  /**
   * DMA_MAP; takes `fd` over, null where the memory is reached by messages only. EINVAL for flags or a range that
   * make no sense and for descriptors of the wrong kind, EACCES for writes to one that is open for reading, EEXIST
   * where a region overlaps, ENOSPC beyond the agreed number; for a lent buffer also what Ioas.mapFile and
   * BorrowedBuffer.map say, ETIMEDOUT for one whose exporter is silent.
   */
  *map(request: DmaMapRequest, fd: OwnedFd | null): Task {
    try {
      this.check(request);
      const at = this.firstEndingAfter(request.iova);
      const next = this.regions[at];
      if (next !== undefined && next.iova < request.iova + request.sizeBytes) {
        throw new Errno('EEXIST', `DMA_MAP: ${describe(request)} overlaps ${describe(next)}`);
      }
      if (this.regions.length >= this.limits.maxDmaMaps) {
        throw new Errno('ENOSPC', `DMA_MAP: ${this.limits.maxDmaMaps} regions are mapped`);
      }
      const region = yield* this.mapKind(request, fd);
      this.regions.splice(this.firstEndingAfter(request.iova), 0, region);
    } finally {
      fd?.close();
    }
  }

  /**
   * DMA_UNMAP of whole regions; returns the bytes unmapped, 0 where nothing was, as VFIO_IOMMU_UNMAP_DMA does. EINVAL
   * where a region would be cut, and then nothing changes.
   */
  *unmap(flags: number, iova: bigint, size: bigint): Task<number> {
    const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    if ((flags & ~VFIO_DMA_UNMAP_FLAG_ALL) !== 0 || (all ? iova !== 0n || size !== 0n : size === 0n)) {
      throw new Errno('EINVAL', `DMA_UNMAP: flags ${flags}, ${size} bytes at 0x${iova.toString(16)}`);
    }
    const start = Number(iova);
    const end = all ? Number.POSITIVE_INFINITY : Number(iova + size);
    const first = this.firstEndingAfter(start);
    let last = first;
    while (last < this.regions.length && this.regions[last].iova < end) {
      const region = this.regions[last++];
      if (region.iova < start || region.iova + region.sizeBytes > end) {
        throw new Errno('EINVAL', `DMA_UNMAP: the range would cut ${describe(region)}`);
      }
    }
    const gone = this.regions.splice(first, last - first);
    yield* this.releaseAll(gone);
    return gone.reduce((sum, region) => sum + region.sizeBytes, 0);
  }

  /** The client is gone: nothing stays mapped. */
  *destroy(): Task {
    yield* this.releaseAll(this.regions.splice(0));
    yield* this.ioas.detachDomain(this.domain);
    yield* this.ioas.destroy();
  }

  /** There may be many: other clients are served in between. From the end, where taking one out moves no others. */
  private *releaseAll(regions: readonly Region[]): Task {
    for (let i = regions.length - 1; i >= 0; i--) {
      yield* this.release(regions[i]);
      if (i % RELEASE_BATCH === 0) yield* condResched();
    }
  }

  private check({ flags, offset, iova, sizeBytes }: DmaMapRequest): void {
    const page = this.limits.pageBytes;
    const aligned = iova % page === 0 && sizeBytes % page === 0 && offset % PAGE_SIZE === 0;
    const bits = (flags & ACCESS) !== 0 && (flags & ~ACCESS) === 0;
    if (!bits || sizeBytes === 0 || !aligned || iova + sizeBytes > ADDRESS_END) {
      const at = `${sizeBytes} bytes at 0x${iova.toString(16)}, file offset 0x${offset.toString(16)}`;
      throw new Errno('EINVAL', `DMA_MAP: flags ${flags}, ${at}: whole pages of ${page} and an access are needed`);
    }
  }

  private *mapKind(request: DmaMapRequest, fd: OwnedFd | null): Task<Region> {
    const { flags, offset, iova, sizeBytes } = request;
    const write = (flags & VFIO_USER_F_DMA_REGION_WRITE) !== 0;
    const prot = ((flags & VFIO_USER_F_DMA_REGION_READ) !== 0 ? IOMMU_READ : 0) | (write ? IOMMU_WRITE : 0);
    if (fd === null) {
      this.domain.map(iova, sizeBytes, { kind: 'remote', access: this.remote, address: iova }, prot);
      return { iova, sizeBytes, kind: 'remote', memory: null };
    }
    const buffer = this.buffers.find(fd);
    if (buffer !== null) {
      yield* this.ioas.mapFile(referenced(buffer), BigInt(offset), BigInt(sizeBytes), BigInt(iova), prot);
      return { iova, sizeBytes, kind: 'buffer', memory: null };
    }
    if (isUnixPacketSocket(fd.fd)) return yield* this.mapBorrowed(request, fd, prot);
    if (write && !isWritable(fd.fd)) throw new Errno('EACCES', `DMA_MAP: the descriptor is not open for writing`);
    const memory = openSharedMemory(fd.duplicate(), offset, sizeBytes, write);
    try {
      this.checkRoom(memory);
      this.domain.map(iova, sizeBytes, { kind: 'memory', memory, offset: 0 }, prot);
    } catch (error) {
      memory.close();
      throw error;
    }
    this.account(memory, 1);
    return { iova, sizeBytes, kind: 'memory', memory };
  }

  /** A dma-buf of another process: real bytes through its memory, until its exporter takes it back. */
  private *mapBorrowed({ iova, sizeBytes, offset }: DmaMapRequest, fd: OwnedFd, prot: number): Task<Region> {
    if (this.borrowed >= LIMITS.maxBorrowed) throw new Errno('ENOSPC', `DMA_MAP: ${this.borrowed} lent buffers`);
    const buffer = this.buffers.borrow(fd, () => this.domain.unmap(iova, sizeBytes));
    this.borrowed += 1;
    const memories: SharedMemory[] = [];
    try {
      const parts = yield* buffer.map(offset, sizeBytes, (prot & IOMMU_WRITE) !== 0);
      for (const memory of new Set(parts.map((part) => part.memory))) {
        this.checkRoom(memory);
        this.account(memory, 1);
        memories.push(memory);
      }
      let at = iova;
      for (const { memory, offset: start, sizeBytes: length } of parts) {
        this.domain.map(at, length, { kind: 'memory', memory, offset: start }, prot);
        at += length;
      }
      return { iova, sizeBytes, kind: 'borrowed', memory: null, borrowed: { buffer, memories } };
    } catch (error) {
      this.domain.unmap(iova, sizeBytes);
      this.giveBack({ buffer, memories });
      throw error;
    }
  }

  private giveBack({ buffer, memories }: NonNullable<Region['borrowed']>): void {
    this.borrowed -= 1;
    for (const memory of memories) this.account(memory, -1);
    buffer.close();
  }

  private checkRoom(memory: SharedMemory): void {
    const maps = mapsOf(memory);
    if (keepsDescriptor(memory) && this.files >= LIMITS.maxFileRegions) {
      const advice = 'pass memfds that can be sealed, in parts of 1 GiB at most';
      throw new Errno('ENOSPC', `DMA_MAP: ${this.files} regions keep their descriptors, the most; ${advice}`);
    }
    if (this.mapped + maps > LIMITS.maxMappedRegions || mappedOfAll + maps > LIMITS.maxMappedRegionsOfAll) {
      throw new Errno('ENOSPC', `DMA_MAP: ${this.mapped} mappings of this client, ${mappedOfAll} of all`);
    }
  }

  private account(memory: SharedMemory, sign: 1 | -1): void {
    const maps = mapsOf(memory);
    if (keepsDescriptor(memory)) this.files += sign;
    this.mapped += sign * maps;
    mappedOfAll += sign * maps;
  }

  private *release({ iova, sizeBytes, kind, memory, borrowed }: Region): Task {
    if (kind === 'buffer') {
      yield* this.ioas.unmap(BigInt(iova), BigInt(sizeBytes));
      return;
    }
    this.domain.unmap(iova, sizeBytes);
    if (borrowed !== undefined) this.giveBack(borrowed);
    if (memory === null) {
      if (kind === 'remote') this.remote.abort(iova, sizeBytes);
      return;
    }
    this.account(memory, -1);
    memory.close();
  }

  private firstEndingAfter(iova: number): number {
    let low = 0;
    let high = this.regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const region = this.regions[middle];
      if (region.iova + region.sizeBytes <= iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function* referenced(buffer: DmaBuf): Task<DmaBuf> {
  yield* buffer.get();
  return buffer;
}

/** How many mappings of the process a region takes at most; none where it is reached by calls. */
function mapsOf(memory: SharedMemory): number {
  return memory instanceof FileMemory ? 0 : Math.ceil(memory.sizeBytes / SEGMENT_BYTES);
}

function keepsDescriptor(memory: SharedMemory): boolean {
  return memory instanceof FileMemory || memory.sizeBytes > SEGMENT_BYTES;
}

function describe({ iova, sizeBytes }: { iova: number; sizeBytes: number }): string {
  return `${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`;
}
