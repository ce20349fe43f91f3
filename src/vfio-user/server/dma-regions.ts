/** A client's memory: DMA_MAP and DMA_UNMAP, and the address space that they fill for the device. */
import { Errno } from '../../abi/errno.ts';
import { VFIO_DMA_UNMAP_FLAG_ALL } from '../../abi/vfio-type1.ts';
import {
  VFIO_USER_DEFAULT_MAX_DMA_MAPS,
  VFIO_USER_F_DMA_REGION_READ,
  VFIO_USER_F_DMA_REGION_WRITE,
} from '../../abi/vfio-user.ts';
import type { DmaBuf } from '../../dma-buf/dma-buf.ts';
import { IommuDomain } from '../../iommu/domain.ts';
import { RangeMap } from '../../iommu/range-map.ts';
import type { OwnedFd } from '../../linux/fd.ts';
import { isWritable, sealsOf } from '../../linux/memfd.ts';
import { MappingBudget, type MemoryPart, SharedFiles } from '../../linux/shared-files.ts';
import { isUnixPacketSocket } from '../../linux/socket.ts';
import { IOMMU_READ, IOMMU_WRITE, type RemoteMemory } from '../../pci/dma.ts';
import type { Task } from '../../task/op.ts';
import { condResched } from '../../task/runner.ts';
import { Ioas } from '../../vfio/ioas.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import type { BorrowedBuffer } from '../dma-buf/borrowed-buffer.ts';
import { LIMITS } from '../wire/frame.ts';
import type { LimitUse } from '../wire/limit-use.ts';

/** A client's limits for mapping, as VERSION agreed. */
export interface DmaLimits {
  /**
   * A client that sends the protocol's default, or nothing, gets LIMITS.maxDmaMaps all the same. QEMU sends it, and
   * maps whatever its guest maps.
   */
  maxDmaMaps: number;
}

const ACCESS = VFIO_USER_F_DMA_REGION_READ | VFIO_USER_F_DMA_REGION_WRITE;
/** Regions released in a row before other clients have their turn. */
const RELEASE_BATCH = 64;

/** Regions of every client of this process. */
let regionsOfAll = 0;

/** struct vfio_user_dma_map as plain numbers. dma-requests.ts has checked the range. */
export interface DmaMapRequest {
  flags: number;
  /** The offset in the descriptor's file. */
  offset: number;
  iova: number;
  sizeBytes: number;
}

/** One DMA_MAP with the resources that it holds. */
interface Region {
  readonly iova: number;
  readonly sizeBytes: number;
  readonly held: Held;
}

/**
 * The holder of the resources: parts of the client's files, a borrowed buffer, the IOAS (`buffer`), or nobody
 * (`remote`).
 */
type Held = { parts: readonly MemoryPart[] } | { borrowed: BorrowedBuffer } | 'buffer' | 'remote';

/** Finds the dma-buf of a descriptor that does not stand for memory. */
export interface LentBuffers {
  /** Returns the dma-buf of this process; null for any other descriptor. */
  find(fd: OwnedFd): DmaBuf | null;
  /** Opens a session with the exporter of another process's dma-buf; the arguments as in BorrowedBuffer. */
  borrow(fd: OwnedFd, budget: MappingBudget, onLost: () => void): BorrowedBuffer;
}

/**
 * The I/O address space of one client. Its files are mapped and stay until DMA_UNMAP. A lent buffer, of this process or
 * another, follows its exporter. A revoke removes its translations for good, and its range stays taken until DMA_UNMAP.
 */
export class DmaRegions {
  readonly domain: IommuDomain;
  private readonly ioas: Ioas;
  private readonly remote: RemoteMemory;
  private readonly buffers: LentBuffers;
  private readonly regions = new RangeMap<Region>();
  private readonly limits: DmaLimits;
  private readonly budget = new MappingBudget(LIMITS.maxFileMappings, LIMITS.maxFileMappingsOfAll);
  private readonly files = new SharedFiles(this.budget);
  private borrowed = 0;

  constructor(name: string, remote: RemoteMemory, buffers: LentBuffers, limits: DmaLimits) {
    this.domain = new IommuDomain(`client of ${name}`, { ownsBus: true });
    this.ioas = new Ioas({ severalRanges: true, importerName: name });
    this.remote = remote;
    this.buffers = buffers;
    this.limits = limits;
  }

  get count(): number {
    return this.regions.size;
  }

  *start(): Task {
    yield* this.ioas.attachDomain(this.domain);
  }

  /**
   * DMA_MAP. Takes `fd` over; null for memory that only messages reach. EINVAL for invalid flags or ranges and for
   * descriptors of the wrong kind. EACCES for writes to a file open only for reading, EPERM for writes to a sealed
   * one. EEXIST where regions overlap, ENOSPC beyond the agreed number and the limits. For a lent buffer also the
   * errors of Ioas.mapFile and BorrowedBuffer.map, and ETIMEDOUT when its exporter is silent.
   */
  *map(request: DmaMapRequest, fd: OwnedFd | null): Task {
    try {
      const { flags, iova, sizeBytes } = request;
      if ((flags & ACCESS) === 0 || (flags & ~ACCESS) !== 0) throw new Errno('EINVAL', `DMA_MAP: flags ${flags}`);
      const next = this.regions.firstOverlap(iova, iova + sizeBytes);
      if (next !== null) throw new Errno('EEXIST', `DMA_MAP: ${describe(request)} overlaps ${describe(next)}`);
      this.checkRoom();
      const held = yield* this.mapKind(request, fd);
      this.regions.insert(iova, iova + sizeBytes, { iova, sizeBytes, held });
      regionsOfAll += 1;
    } finally {
      fd?.close();
    }
  }

  /**
   * DMA_UNMAP of whole regions. Returns the bytes unmapped, 0 if none. ENOENT where a region would be cut; then nothing
   * changes. A region's resources are released whatever else fails.
   */
  *unmap(flags: number, iova: bigint, size: bigint): Task<number> {
    const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    if ((flags & ~VFIO_DMA_UNMAP_FLAG_ALL) !== 0 || (all ? iova !== 0n || size !== 0n : size === 0n)) {
      throw new Errno('EINVAL', `DMA_UNMAP: flags ${flags}, ${size} bytes at 0x${iova.toString(16)}`);
    }
    const start = Number(iova);
    const end = all ? Number.POSITIVE_INFINITY : Number(iova + size);
    for (const region of this.regions.overlapping(start, end)) {
      if (region.iova < start || region.iova + region.sizeBytes > end) {
        throw new Errno('ENOENT', `DMA_UNMAP: the range would cut ${describe(region)}`);
      }
    }
    const gone = this.regions.remove(start, end);
    yield* this.releaseAll(gone);
    return gone.reduce((sum, region) => sum + region.sizeBytes, 0);
  }

  /** Unmaps everything, because the client is gone. Tries all releases, then throws the first failure. */
  *destroy(): Task {
    try {
      yield* this.releaseAll(this.regions.remove(0, Number.POSITIVE_INFINITY));
    } finally {
      yield* this.ioas.detachDomain(this.domain);
      yield* this.ioas.destroy();
    }
  }

  /** Releases regions. There may be many, so other clients have their turn in between. */
  private *releaseAll(regions: readonly Region[]): Task {
    regionsOfAll -= regions.length;
    let failure: unknown;
    for (const [i, region] of regions.entries()) {
      try {
        yield* this.release(region);
      } catch (error) {
        failure ??= error;
      }
      if (i % RELEASE_BATCH === RELEASE_BATCH - 1) yield* condResched();
    }
    if (failure !== undefined) throw failure;
  }

  private get mostRegions(): number {
    const { maxDmaMaps } = this.limits;
    return maxDmaMaps === VFIO_USER_DEFAULT_MAX_DMA_MAPS ? LIMITS.maxDmaMaps : maxDmaMaps;
  }

  usage(of: string): LimitUse[] {
    return [
      { limit: 'maxDmaMaps', of, used: this.regions.size, most: this.mostRegions },
      { limit: 'maxFileMappings', of, used: this.budget.used, most: LIMITS.maxFileMappings },
      { limit: 'maxBorrowed', of, used: this.borrowed, most: LIMITS.maxBorrowed },
    ];
  }

  private checkRoom(): void {
    const maxDmaMaps = this.mostRegions;
    if (this.regions.size >= maxDmaMaps) {
      throw beyondLimit('maxDmaMaps', 'ENOSPC', `DMA_MAP: ${maxDmaMaps} regions are mapped`);
    }
    if (regionsOfAll >= LIMITS.maxDmaMapsOfAll) {
      const reason = `DMA_MAP: the clients of this server have ${regionsOfAll} regions together`;
      throw beyondLimit('maxDmaMapsOfAll', 'ENOSPC', reason);
    }
  }

  private *mapKind(request: DmaMapRequest, fd: OwnedFd | null): Task<Held> {
    const { flags, offset, iova, sizeBytes } = request;
    const write = (flags & VFIO_USER_F_DMA_REGION_WRITE) !== 0;
    const prot = ((flags & VFIO_USER_F_DMA_REGION_READ) !== 0 ? IOMMU_READ : 0) | (write ? IOMMU_WRITE : 0);
    if (fd === null) {
      this.domain.map(iova, sizeBytes, { kind: 'remote', access: this.remote, address: iova }, prot);
      return 'remote';
    }
    // Memory has seals. They are checked first, since a guest with a virtual IOMMU maps a quarter of a million pages of
    // it.
    if (sealsOf(fd.fd) === null && isUnixPacketSocket(fd.fd)) return yield* this.mapLent(request, fd, prot);
    if (write && !isWritable(fd.fd)) throw new Errno('EACCES', `DMA_MAP: the descriptor is not open for writing`);
    const parts = this.files.open(fd, offset, sizeBytes, write);
    try {
      this.mapParts(iova, parts, prot);
      return { parts };
    } catch (error) {
      this.domain.unmap(iova, sizeBytes);
      this.files.release(parts);
      throw error;
    }
  }

  private *mapLent(request: DmaMapRequest, fd: OwnedFd, prot: number): Task<Held> {
    const buffer = this.buffers.find(fd);
    if (buffer === null) return yield* this.mapBorrowed(request, fd, prot);
    const { offset, iova, sizeBytes } = request;
    yield* this.ioas.mapFile(referenced(buffer), BigInt(offset), BigInt(sizeBytes), BigInt(iova), prot);
    return 'buffer';
  }

  private mapParts(iova: number, parts: readonly MemoryPart[], prot: number): void {
    let at = iova;
    for (const { memory, offset, sizeBytes } of parts) {
      this.domain.map(at, sizeBytes, { kind: 'memory', memory, offset }, prot);
      at += sizeBytes;
    }
  }

  /** Maps a dma-buf of another process, whose memory holds the real bytes, until its exporter takes it back. */
  private *mapBorrowed({ iova, sizeBytes, offset }: DmaMapRequest, fd: OwnedFd, prot: number): Task<Held> {
    if (this.borrowed >= LIMITS.maxBorrowed) {
      throw beyondLimit('maxBorrowed', 'ENOSPC', `DMA_MAP: ${this.borrowed} lent buffers`);
    }
    const borrowed = this.buffers.borrow(fd, this.budget, () => this.domain.unmap(iova, sizeBytes));
    this.borrowed += 1;
    try {
      this.mapParts(iova, yield* borrowed.map(offset, sizeBytes, (prot & IOMMU_WRITE) !== 0), prot);
      return { borrowed };
    } catch (error) {
      this.domain.unmap(iova, sizeBytes);
      this.giveBack(borrowed);
      throw error;
    }
  }

  private giveBack(borrowed: BorrowedBuffer): void {
    this.borrowed -= 1;
    borrowed.close();
  }

  private *release({ iova, sizeBytes, held }: Region): Task {
    if (held === 'buffer') {
      yield* this.ioas.unmap(BigInt(iova), BigInt(sizeBytes));
      return;
    }
    this.domain.unmap(iova, sizeBytes);
    if (held === 'remote') this.remote.abort(iova, sizeBytes);
    else if ('borrowed' in held) this.giveBack(held.borrowed);
    else this.files.release(held.parts);
  }
}

function* referenced(buffer: DmaBuf): Task<DmaBuf> {
  yield* buffer.get();
  return buffer;
}

function describe({ iova, sizeBytes }: { iova: number; sizeBytes: number }): string {
  return `${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`;
}
