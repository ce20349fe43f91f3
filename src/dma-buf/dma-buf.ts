/**
 * The dma-buf core (drivers/dma-buf/dma-buf.c): an exporter's buffer, the importers attached to it, and the rules
 * between them. The exporter's ops decide what the memory is, and whether it may be used now.
 *
 * Locks: `resv.lock` guards the attachments and the fences. Exporters may take it inside their own locks, never the
 * other way round (docs/architecture.md, "Lock order").
 */
import { Errno } from '../abi/errno.ts';
import type { PciFunction } from '../pci/function.ts';
import { mayLackMemory } from '../task/faults.ts';
import { InvariantError, Lifetime } from '../task/lifetime.ts';
import { DONE, type Task } from '../task/op.ts';
import { Plain } from '../task/plain.ts';
import { File } from './file.ts';
import { DMA_RESV_USAGE_KERNEL, DmaResv } from './resv.ts';
import type { SgTable } from './scatterlist.ts';

/** enum dma_data_direction. */
export const DMA_BIDIRECTIONAL = 0;
/** enum dma_data_direction: the device only reads the buffer. */
export const DMA_TO_DEVICE = 1;
/** enum dma_data_direction: 0 both ways, 1 to the device, 2 from the device. */
export type DmaDirection = 0 | 1 | 2;

/** An exporter's operations (struct dma_buf_ops). All except `detach`, `unmap` and `release` may throw Errno. */
export interface DmaBufOps {
  /** Called by `attach` without the reservation, before the attachment is listed. */
  attach?(attachment: DmaBufAttachment): Task<void>;
  /** Called by `detach` without the reservation, after the attachment was unlisted. */
  detach?(attachment: DmaBufAttachment): Task<void>;
  /** Called with the reservation held. An exporter without it allows every pin, which then has no effect. */
  pin?(attachment: DmaBufAttachment): Task<void>;
  /** Called with the reservation held, once for each `pin`. */
  unpin?(attachment: DmaBufAttachment): Task<void>;
  /** Called with the reservation held. */
  map(attachment: DmaBufAttachment, direction: DmaDirection): Task<SgTable>;
  /** Called with the reservation held. */
  unmap(attachment: DmaBufAttachment, table: SgTable, direction: DmaDirection): Task<void>;
  /** Called with the reservation held. An exporter without it has no hints: EOPNOTSUPP. */
  getPciTph?(dmabuf: DmaBuf, isExtended: boolean): PciTph;
  /** Called without any lock, for bytes that the buffer has. An exporter without it allows no mmap: EINVAL. */
  mmap?(dmabuf: DmaBuf, area: MmapArea): Task<UserMapping>;
  /** Called once, after the last reference is gone, without any lock. */
  release(dmabuf: DmaBuf): Task<void>;
}

/** The hints for an importer's writes (PCI Express 6.0, 2.2.7.1). */
export interface PciTph {
  /** 8 bits, or 16 if the importer asked for an extended one. */
  readonly steeringTag: number;
  /** The processing hint, 0 to 3. */
  readonly ph: number;
}

/** What mmap(2) asks for. */
export interface MmapArea {
  /** Where the mapping starts in the buffer, in bytes. */
  readonly offset: number;
  /** The length in bytes. */
  readonly sizeBytes: number;
  /** MAP_PRIVATE instead of MAP_SHARED. */
  readonly isPrivate: boolean;
}

/** A process's mapping of a buffer, whose pages the exporter can take away. Accesses then throw BusError. */
export interface UserMapping {
  /** A load by the CPU, `offset` bytes from the mapping's start. */
  read(offset: number, into: Uint8Array): Task;
  /** A store by the CPU, `offset` bytes from the mapping's start. */
  write(offset: number, from: Uint8Array): Task;
  /** munmap(2): drops the mapping's reference to the buffer. */
  unmap(): Task;
}

/** A dynamic importer's operations (struct dma_buf_attach_ops). */
export interface DmaBufAttachOps {
  /** The importer in words, where it has no device: for errors and for people who watch. */
  readonly importerName?: string;
  /** The importer can reach the memory of a peer without struct pages. */
  readonly allowPeer2Peer: boolean;
  /**
   * Called by the exporter with the reservation held. The importer must stop using its mappings once the fences on the
   * reservation have signalled. It must unmap within bounded time: in the callback, or later under the reservation.
   */
  invalidateMappings?(attachment: DmaBufAttachment): Task<void>;
}

/** One importer's hold on one buffer (struct dma_buf_attachment). */
export class DmaBufAttachment {
  /** The buffer that the importer attached to. */
  readonly dmabuf: DmaBuf;
  /** The device whose DMA uses the mappings; null for an importer that takes addresses for other devices (an IOAS). */
  readonly dev: PciFunction | null;
  /** Null for a static importer, which cannot be told to unmap. */
  readonly importerOps: DmaBufAttachOps | null;
  /** Starts as the importer asks; the exporter's attach op may clear it. */
  peer2peer: boolean;
  /** Private data of the exporter (attach->priv). */
  priv: unknown = null;
  /** Live mappings; guarded by the reservation. */
  readonly mappings = new Plain('dma_buf_attachment mappings', new Set<SgTable>());
  /** Ends with `detach`. */
  readonly lifetime = new Lifetime('dma_buf_attachment');

  constructor(dmabuf: DmaBuf, dev: PciFunction | null, importerOps: DmaBufAttachOps | null) {
    this.dmabuf = dmabuf;
    this.dev = dev;
    this.importerOps = importerOps;
    this.peer2peer = importerOps?.allowPeer2Peer ?? false;
  }

  /** Names the importer in messages. */
  get importerName(): string {
    return this.dev?.name ?? this.importerOps?.importerName ?? 'the address space';
  }

  /** dma_buf_attachment_is_dynamic. */
  get isDynamic(): boolean {
    return this.importerOps !== null;
  }
}

/** What an exporter says of a new buffer (struct dma_buf_export_info). */
export interface DmaBufExportInfo<Priv> {
  /** The name of the exporter, for debugging. */
  expName: string;
  /** The operations of the exporter. */
  ops: DmaBufOps;
  /** Bytes, more than zero. */
  sizeBytes: number;
  /** Access mode and O_NONBLOCK of the file. */
  flags: number;
  /** Private data of the exporter. */
  priv: Priv;
  /** The buffer is released with its last file reference. False: with its path, as in Linux. */
  releasesWithFile?: boolean;
}

/** The empty list that all buffers without attachments share: a machine may lend very many of them. */
const NOBODY: DmaBufAttachment[] = [];
Object.freeze(NOBODY);

/** A buffer and the file that stands for it (struct dma_buf). */
export class DmaBuf<Priv = unknown> extends File {
  /** The name of the exporter, for debugging. */
  readonly expName: string;
  /** Bytes of the buffer; never changes. */
  readonly sizeBytes: number;
  /** Access mode and O_NONBLOCK of the file. */
  readonly flags: number;
  /** The operations of the exporter. */
  readonly ops: DmaBufOps;
  /** Private data of the exporter. */
  readonly priv: Priv;
  /** The reservation: its lock guards attachments and mappings, and it holds the fences of users. */
  readonly resv = new DmaResv();
  /** Guarded by the reservation. */
  readonly attachments = new Plain<DmaBufAttachment[]>('dma_buf.attachments', NOBODY);
  /** The name that a user gave it by DMA_BUF_SET_NAME; null without one. */
  name: string | null = null;

  /** dma_buf_export: the caller owns the one reference. EINVAL for a size that is not positive. */
  constructor(info: DmaBufExportInfo<Priv>) {
    if (info.sizeBytes <= 0) throw new Errno('EINVAL', `a dma-buf of ${info.sizeBytes} bytes cannot be exported`);
    super('dma_buf', info.releasesWithFile);
    this.expName = info.expName;
    this.sizeBytes = info.sizeBytes;
    this.flags = info.flags;
    this.ops = info.ops;
    this.priv = info.priv;
  }

  /**
   * dma_buf_attach, dma_buf_dynamic_attach: `importerOps` null makes a static importer. The caller holds a reference to
   * the buffer until it has detached. It does not hold the reservation. Passes on errors of the exporter's attach op.
   */
  *attach(dev: PciFunction | null, importerOps: DmaBufAttachOps | null): Task<DmaBufAttachment> {
    mayLackMemory('dma_buf_attachment');
    const attachment = new DmaBufAttachment(this as DmaBuf, dev, importerOps);
    try {
      if (this.ops.attach !== undefined) yield* this.ops.attach(attachment);
    } catch (error) {
      attachment.lifetime.end();
      throw error;
    }
    yield* this.resv.lock.lock();
    if (this.attachments.get() === NOBODY) this.attachments.set([attachment]);
    else this.attachments.change().push(attachment);
    yield* this.resv.lock.unlock();
    return attachment;
  }

  /** dma_buf_detach. The importer has unmapped everything. */
  *detach(attachment: DmaBufAttachment): Task {
    attachment.lifetime.check('detach');
    yield* this.resv.lock.lock();
    const attachments = this.attachments.change();
    const index = attachments.indexOf(attachment);
    if (index >= 0) attachments.splice(index, 1);
    const leaked = attachment.mappings.get().size;
    yield* this.resv.lock.unlock();
    if (this.ops.detach !== undefined) yield* this.ops.detach(attachment);
    attachment.lifetime.end();
    if (leaked > 0) throw new InvariantError('I3', `an attachment was detached with ${leaked} mappings`);
  }

  /**
   * dma_buf_map_attachment: the reservation is held. ENODEV while the exporter cannot lend. An unpinned mapping is
   * valid until the exporter calls `invalidateMappings`.
   */
  *map(attachment: DmaBufAttachment, direction: DmaDirection): Task<SgTable> {
    this.resv.lock.assertHeld();
    attachment.lifetime.check('map');
    const pins = this.ops.pin !== undefined && !attachment.isDynamic;
    if (pins) yield* this.ops.pin!(attachment);
    try {
      const table = yield* this.ops.map(attachment, direction);
      if (!attachment.isDynamic) yield* this.resv.wait(DMA_RESV_USAGE_KERNEL);
      attachment.mappings.change().add(table);
      return table;
    } catch (error) {
      if (pins && this.ops.unpin !== undefined) yield* this.ops.unpin(attachment);
      throw error;
    }
  }

  /** dma_buf_unmap_attachment: the reservation is held. */
  *unmap(attachment: DmaBufAttachment, table: SgTable, direction: DmaDirection): Task {
    this.resv.lock.assertHeld();
    attachment.lifetime.check('unmap');
    if (!attachment.mappings.change().delete(table)) {
      throw new InvariantError('I3', 'a table is unmapped that is not mapped');
    }
    yield* this.ops.unmap(attachment, table, direction);
    if (this.ops.unpin !== undefined && !attachment.isDynamic) yield* this.ops.unpin(attachment);
  }

  /** dma_buf_map_attachment_unlocked. */
  *mapUnlocked(attachment: DmaBufAttachment, direction: DmaDirection): Task<SgTable> {
    yield* this.resv.lock.lock();
    try {
      return yield* this.map(attachment, direction);
    } finally {
      yield* this.resv.lock.unlock();
    }
  }

  /** dma_buf_unmap_attachment_unlocked. */
  *unmapUnlocked(attachment: DmaBufAttachment, table: SgTable, direction: DmaDirection): Task {
    yield* this.resv.lock.lock();
    try {
      yield* this.unmap(attachment, table, direction);
    } finally {
      yield* this.resv.lock.unlock();
    }
  }

  /** dma_buf_pin: the reservation is held; only dynamic importers call it, static ones are pinned by `map`. */
  *pin(attachment: DmaBufAttachment): Task {
    this.resv.lock.assertHeld();
    if (this.ops.pin !== undefined) yield* this.ops.pin(attachment);
  }

  /** dma_buf_unpin: the reservation is held. */
  *unpin(attachment: DmaBufAttachment): Task {
    this.resv.lock.assertHeld();
    if (this.ops.unpin !== undefined) yield* this.ops.unpin(attachment);
  }

  /**
   * dma_buf_get_pci_tph, as proposed: the hints for writes by an importer's device, with an 8-bit or an extended
   * steering tag. The reservation is held. EOPNOTSUPP where the buffer has none of the kind.
   */
  getPciTph(isExtended: boolean): PciTph {
    this.resv.lock.assertHeld();
    if (this.ops.getPciTph === undefined) throw new Errno('EOPNOTSUPP', 'the exporter has no hints');
    return this.ops.getPciTph(this as DmaBuf, isExtended);
  }

  /** dma_buf_invalidate_mappings: tells every dynamic importer, the newest first; the reservation is held. */
  invalidateMappings(): Task {
    this.resv.lock.assertHeld();
    return this.attachments.get().length === 0 ? DONE : this.invalidateEach();
  }

  private *invalidateEach(): Task {
    // An importer may unmap in the callback, but never detach: that takes the reservation, which is held here.
    const attachments = this.attachments.get();
    for (let i = attachments.length - 1; i >= 0; i -= 1) {
      const { importerOps } = attachments[i];
      if (importerOps?.invalidateMappings !== undefined) yield* importerOps.invalidateMappings(attachments[i]);
    }
  }

  /** dma_buf_release. */
  protected override *release(): Task {
    yield* this.ops.release(this as DmaBuf);
    const { length } = this.attachments.get();
    if (length > 0) throw new InvariantError('I3', `a dma-buf was released with ${length} attachments`);
  }
}
