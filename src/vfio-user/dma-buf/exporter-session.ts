/**
 * The exporter's state of one importer in another process: attachments, mappings and fences of one session
 * (docs/dma-buf-socket.md). Nothing here knows of sockets. exporter-connection.ts moves the messages, and the explorer
 * moves them in every order.
 *
 * Every request is a task of its own. Requests meet at the buffer's reservation, which guards the attachments and the
 * mappings. Fences are signalled without it, since a revoke holds it while it waits for them. `InvalidateRequest` says
 * what an importer owes after an INVALIDATE; the connection enforces it.
 */
import { Errno, type ErrnoName } from '../../abi/errno.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, type DmaBuf } from '../../dma-buf/dma-buf.ts';
import { DmaFence } from '../../dma-buf/fence.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { Plain } from '../../task/plain.ts';
import { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import {
  type ImporterLink,
  type InvalidateRequest,
  memoryOf,
  RemoteAttachment,
  type RemoteMapping,
} from './remote-mapping.ts';
import type { SharedBars } from './shared-bars.ts';

interface OwnedFence {
  readonly fence: DmaFence;
  readonly attachment: RemoteAttachment;
}

/** Pending fences of a buffer, of all its importers. */
const fencesOf = new WeakMap<DmaBuf, number>();
/** Ranges of the mappings of all importers of this process. */
let rangesOfAll = 0;

export class ExporterSession {
  readonly dmabuf: DmaBuf;
  private readonly link: ImporterLink;
  private readonly bars: SharedBars;
  private nextId = 1;
  /** Ranges of all mappings of the session. */
  private ranges = 0;
  /** Both maps are guarded by the reservation. An attachment is listed from its announcement on. */
  private readonly attachments = new Plain('importer.attachments', new Map<number, RemoteAttachment>());
  private readonly mappings = new Plain('importer.mappings', new Map<number, RemoteMapping>());
  /** The pending fences. ADD_FENCE changes them under the reservation, SIGNAL_FENCE without. */
  private readonly fences = new Cell('importer.fences', new Map<number, OwnedFence>());
  /** Set before anything is given back. After that, requests that come or are under way change nothing. */
  private readonly ended = new Cell('importer.ended', false);
  /** Attachments that are being detached. */
  private readonly leaving = new Cell('importer.leaving', new Set<number>());
  /** Requests that `end` waits for. */
  private readonly underWay = new Cell('importer.requests', 0);

  /** Takes ownership of a reference to `dmabuf`; `end` drops it. */
  constructor(dmabuf: DmaBuf, link: ImporterLink, bars: SharedBars) {
    this.dmabuf = dmabuf;
    this.link = link;
    this.bars = bars;
  }

  /** Whether the buffer is revoked. */
  get isRevoked(): boolean {
    return !(this.dmabuf.priv instanceof VfioPciDmaBuf) || this.dmabuf.priv.revoked.value;
  }

  /**
   * ATTACH. `announce` sends the id to the importer with the reservation held, so that no message about the attachment
   * can precede it. ENOSPC beyond the limit, else the errors of the exporter's attach.
   */
  attach(announce: (id: number) => Task): Task {
    return this.during(() => this.attachListed(announce));
  }

  private *attachListed(announce: (id: number) => Task): Task {
    const remote = new RemoteAttachment(this.takeId());
    remote.attachment = yield* this.dmabuf.attach(null, {
      allowPeer2Peer: true,
      invalidateMappings: () => this.invalidate(remote),
    });
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    try {
      const { size } = this.attachments.get();
      if (size >= IMPORTER_LIMITS.maxAttachments) throw new Errno('ENOSPC', `${size} attachments are the most`);
      const ofBuffer = this.dmabuf.attachments.get().length;
      if (ofBuffer > IMPORTER_LIMITS.maxAttachmentsOfBuffer) {
        throw new Errno('ENOSPC', `the buffer has ${ofBuffer - 1} attachments of all its importers`);
      }
      this.attachments.change().set(remote.id, remote);
      yield* announce(remote.id);
    } catch (error) {
      this.attachments.change().delete(remote.id);
      yield* lock.unlock();
      yield* this.dmabuf.detach(remote.attachment);
      throw error;
    }
    yield* lock.unlock();
  }

  /** DETACH. Ends the attachment's mappings too, and signals its fences with an error. ENOENT. */
  detach(id: number): Task {
    return this.during(() => this.detachListed(id));
  }

  private *detachListed(id: number): Task {
    const { lock } = this.dmabuf.resv;
    // Signal the fences first: a task that waits for them may hold the reservation. An ADD_FENCE under way sees
    // `leaving`, and signals its own fence.
    yield* this.leaving.changeFor((ids) => void ids.add(id));
    for (const [fence, owned] of yield* this.pendingFences()) {
      if (owned.attachment.id === id) yield* this.signal(fence, 'ECANCELED');
    }
    yield* lock.lock();
    const remote = this.attachments.get().get(id);
    if (remote !== undefined) {
      for (const mapping of this.mappingsOf(remote)) yield* this.drop(mapping, false);
      this.attachments.change().delete(id);
    }
    yield* this.leaving.changeFor((ids) => void ids.delete(id));
    yield* lock.unlock();
    if (remote === undefined) throw new Errno('ENOENT', `there is no attachment ${id}`);
    yield* this.dmabuf.detach(remote.attachment);
  }

  /**
   * MAP. `announce` sends the mapping with the reservation held, so that an INVALIDATE can only follow it. ENOENT,
   * ENOSPC; ENODEV while revoked; E2BIG for more ranges than a message takes; EOPNOTSUPP where no memory can be shared.
   */
  map(attachment: number, writable: boolean, announce: (mapping: RemoteMapping) => Task): Task {
    return this.during(() => this.mapLocked(attachment, writable, announce));
  }

  private *mapLocked(id: number, writable: boolean, announce: (mapping: RemoteMapping) => Task): Task {
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    try {
      const attachment = this.attachments.get().get(id);
      if (attachment === undefined) throw new Errno('ENOENT', `there is no attachment ${id}`);
      const { size } = this.mappings.get();
      if (size >= IMPORTER_LIMITS.maxMappings) throw new Errno('ENOSPC', `${size} mappings are the most`);
      this.checkRanges();
      const direction = writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
      const table = yield* this.dmabuf.map(attachment.attachment, direction);
      let mapping: RemoteMapping | null = null;
      try {
        const { memory, ranges } = memoryOf(this.dmabuf, table);
        mapping = { id: this.takeId(), attachment, direction, table, memory, ranges };
        this.mappings.change().set(mapping.id, mapping);
        this.countRanges(mapping, 1);
        this.bars.hold(memory);
        yield* announce(mapping);
      } catch (error) {
        if (mapping !== null) yield* this.drop(mapping, false);
        else yield* this.dmabuf.unmap(attachment.attachment, table, direction);
        throw error;
      }
    } finally {
      yield* lock.unlock();
    }
  }

  /** UNMAP. ENOENT, also where an answer to INVALIDATE came first. */
  unmap(id: number): Task {
    return this.during(() => this.unmapAll([id]));
  }

  /** Handles the answer to INVALIDATE: drops every mapping that existed when the INVALIDATE was sent. */
  acknowledge(told: InvalidateRequest): Task {
    return this.during(() => this.unmapAll(null, told));
  }

  private *unmapAll(ids: readonly number[] | null, told?: InvalidateRequest): Task {
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    try {
      for (const id of ids ?? told!.mappings.map((mapping) => mapping.id)) {
        const mapping = this.mappings.get().get(id);
        if (mapping !== undefined) yield* this.drop(mapping, false);
        else if (ids !== null) throw new Errno('ENOENT', `there is no mapping ${id}`);
      }
    } finally {
      yield* lock.unlock();
    }
  }

  /**
   * ADD_FENCE: adds a fence that later users wait for, as DMA_BUF_IOCTL_IMPORT_SYNC_FILE does. ENOENT, ENOSPC. ENODEV
   * while revoked: an importer without mappings has no work, and a revoke must not get new fences to wait for.
   */
  addFence(attachment: number, usage: DmaResvUsage, announce: (id: number) => Task): Task {
    return this.during(() => this.addFenceLocked(attachment, usage, announce));
  }

  private *addFenceLocked(id: number, usage: DmaResvUsage, announce: (id: number) => Task): Task {
    const { resv } = this.dmabuf;
    const fenceId = this.takeId();
    yield* resv.lock.lock();
    try {
      const attachment = this.attachments.get().get(id);
      if (attachment === undefined) throw new Errno('ENOENT', `there is no attachment ${id}`);
      if (this.isRevoked) throw new Errno('ENODEV', 'the buffer is revoked: its device lends nothing now');
      const size = yield* this.fences.loadFor((fences) => fences.size);
      if (size >= IMPORTER_LIMITS.maxFences) throw new Errno('ENOSPC', `${size} fences are the most`);
      const ofBuffer = fencesOf.get(this.dmabuf) ?? 0;
      if (ofBuffer >= IMPORTER_LIMITS.maxFencesOfBuffer) {
        throw new Errno('ENOSPC', `the buffer has ${ofBuffer} pending fences of all its importers`);
      }
      const fence = new DmaFence('fence of an importer');
      yield* this.fences.changeFor((fences) => void fences.set(fenceId, { fence, attachment }));
      fencesOf.set(this.dmabuf, ofBuffer + 1);
      yield* resv.addFence(fence, usage);
      yield* announce(fenceId);
    } finally {
      // `end` or `detach` may have signalled the fences just before. Checked after the insertion, so that one of the
      // two sees the other.
      const isLate = (yield* this.ended.load()) || (yield* this.leaving.loadFor((ids) => ids.has(id)));
      if (isLate) yield* this.signal(fenceId, 'ECANCELED');
      yield* resv.lock.unlock();
    }
  }

  /** SIGNAL_FENCE. Takes no lock, because a revoke holds the reservation while it waits for the fence. ENOENT. */
  *signalFence(id: number, error: ErrnoName | null): Task {
    if (!(yield* this.signal(id, error))) throw new Errno('ENOENT', `there is no fence ${id}`);
  }

  /**
   * Ends the session of an importer that is gone or counts as gone: fences signal with an error, and everything is
   * given back. With `stillMapped`, the importer may live on with its mappings. The BAR then moves to other memory as
   * soon as nobody else shares it, before a revoke that waits for these mappings returns. Called once. Waits for the
   * requests under way, which end by themselves.
   */
  *end(stillMapped: boolean): Task {
    yield* this.ended.store(true);
    for (const [id] of yield* this.pendingFences()) yield* this.signal(id, 'ECANCELED');
    yield* this.underWay.waitUntil((count) => count === 0);
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    for (const mapping of [...this.mappings.get().values()]) yield* this.drop(mapping, stillMapped);
    const attachments = [...this.attachments.get().values()];
    this.attachments.change().clear();
    yield* lock.unlock();
    for (const { attachment } of attachments) yield* this.dmabuf.detach(attachment);
    yield* this.dmabuf.put();
  }

  /** Called by the exporter with the reservation held: before a revoke waits, and after a restore. */
  private *invalidate(remote: RemoteAttachment): Task {
    if (!this.attachments.get().has(remote.id)) return;
    if (!this.isRevoked) {
      yield* this.link.restore(remote.id);
      return;
    }
    const pending = (yield* this.pendingFences()).filter(([, { attachment }]) => attachment === remote);
    const fences = pending.map(([, { fence }]) => fence);
    yield* this.link.invalidate({ attachment: remote.id, mappings: this.mappingsOf(remote), fences });
  }

  /** Ids have 32 bits and are never used twice. A session ends when it has used them all. */
  private takeId(): number {
    if (this.nextId > 0xffffffff) throw new Errno('ENOSPC', 'the session has used all its ids');
    return this.nextId++;
  }

  private pendingFences(): Task<[number, OwnedFence][]> {
    return this.fences.loadFor((fences) => [...fences]);
  }

  private mappingsOf(remote: RemoteAttachment): RemoteMapping[] {
    return [...this.mappings.get().values()].filter((mapping) => mapping.attachment === remote);
  }

  /** Runs before the table is made. E2BIG for more ranges than a message takes, ENOSPC for more than may be kept. */
  private checkRanges(): void {
    if (this.isRevoked) return;
    const count = (this.dmabuf.priv as VfioPciDmaBuf).physVec.length;
    const { maxRanges, maxMappedRanges, maxMappedRangesOfAll } = IMPORTER_LIMITS;
    if (count > maxRanges) throw new Errno('E2BIG', `${count} ranges; ${maxRanges} fit into a message`);
    if (this.ranges + count > maxMappedRanges || rangesOfAll + count > maxMappedRangesOfAll) {
      throw new Errno('ENOSPC', `${this.ranges} ranges of this session are mapped, ${rangesOfAll} of all`);
    }
  }

  private countRanges({ ranges }: RemoteMapping, sign: 1 | -1): void {
    this.ranges += sign * ranges.length;
    rangesOfAll += sign * ranges.length;
  }

  /** The reservation is held. */
  private *drop(mapping: RemoteMapping, stillMapped: boolean): Task {
    this.mappings.change().delete(mapping.id);
    this.countRanges(mapping, -1);
    // Must precede the unmap, which lets a revoke return.
    yield* this.bars.drop(mapping.memory, stillMapped);
    yield* this.dmabuf.unmap(mapping.attachment.attachment, mapping.table, mapping.direction);
  }

  private *signal(id: number, error: ErrnoName | null): Task<boolean> {
    const owned = yield* this.fences.changeFor((fences) => {
      const found = fences.get(id);
      fences.delete(id);
      return found;
    });
    if (owned === undefined) return false;
    fencesOf.set(this.dmabuf, fencesOf.get(this.dmabuf)! - 1);
    owned.fence.error = error;
    yield* owned.fence.signal();
    return true;
  }

  /** Runs a request that `end` waits for. ESHUTDOWN where the session has ended. */
  private *during<T>(request: () => Task<T>): Task<T> {
    yield* this.underWay.update((count) => count + 1);
    try {
      if (yield* this.ended.load()) throw new Errno('ESHUTDOWN', 'the session has ended');
      return yield* request();
    } finally {
      yield* this.underWay.update((count) => count - 1);
    }
  }
}
