/**
 * The exporter's state of one importer in another process: its attachments, its mappings (session-mappings.ts) and its
 * fences (session-fences.ts). docs/dma-buf-socket.md defines the requests. Nothing here knows of sockets.
 * exporter-connection.ts moves the messages, and the explorer moves them in every order.
 *
 * Every request is a task of its own. Requests meet at the buffer's reservation, which guards the attachments and the
 * mappings. `InvalidateRequest` says what an importer owes after an INVALIDATE; the connection enforces it.
 */
import { Errno, type ErrnoName } from '../../abi/errno.ts';
import { DMA_BIDIRECTIONAL, DMA_TO_DEVICE, type DmaBuf } from '../../dma-buf/dma-buf.ts';
import type { DmaResvUsage } from '../../dma-buf/resv.ts';
import { Cell } from '../../task/cell.ts';
import type { Task } from '../../task/op.ts';
import { Plain } from '../../task/plain.ts';
import { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import { beyondLimit } from '../../vfio/limit-hits.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import { IMPORTER_LIMITS } from './limits.ts';
import { type ImporterLink, type InvalidateRequest, RemoteAttachment, type RemoteMapping } from './remote-mapping.ts';
import { SessionFences } from './session-fences.ts';
import { SessionMappings } from './session-mappings.ts';
import type { SharedBars } from './shared-bars.ts';

export class ExporterSession {
  readonly dmabuf: DmaBuf;
  private readonly link: ImporterLink;
  private nextId = 1;
  /** Guarded by the reservation. An attachment is listed from its announcement on. */
  private readonly attachments = new Plain('importer.attachments', new Map<number, RemoteAttachment>());
  private readonly mappings: SessionMappings;
  private readonly fences: SessionFences;
  /** Set before anything is given back. After that, requests that come or are under way change nothing. */
  private readonly ended = new Cell('importer.ended', false);
  /** Attachments that are being detached. */
  private readonly leaving = new Cell('importer.leaving', new Set<number>());
  /** Requests that `end` waits for. */
  private readonly underWay = new Cell('importer.requests', 0);

  private readonly importerName: string;

  /** Takes ownership of a reference to `dmabuf`; `end` drops it. */
  constructor(dmabuf: DmaBuf, link: ImporterLink, bars: SharedBars, importerName = 'an importer') {
    this.importerName = importerName;
    this.dmabuf = dmabuf;
    this.link = link;
    this.mappings = new SessionMappings(dmabuf, bars);
    this.fences = new SessionFences(dmabuf);
  }

  usage(of: string): LimitUse[] {
    const { maxAttachments } = IMPORTER_LIMITS;
    return [
      { limit: 'maxAttachments', of, used: this.attachments.get().size, most: maxAttachments },
      ...this.mappings.usage(of),
      ...this.fences.usage(of),
    ];
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
      importerName: this.importerName,
      allowPeer2Peer: true,
      invalidateMappings: () => this.invalidate(remote),
    });
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    try {
      const { size } = this.attachments.get();
      if (size >= IMPORTER_LIMITS.maxAttachments) {
        throw beyondLimit('maxAttachments', 'ENOSPC', `${size} attachments are the most`);
      }
      const ofBuffer = this.dmabuf.attachments.get().length;
      if (ofBuffer > IMPORTER_LIMITS.maxAttachmentsOfBuffer) {
        const reason = `the buffer has ${ofBuffer - 1} attachments of all its importers`;
        throw beyondLimit('maxAttachmentsOfBuffer', 'ENOSPC', reason);
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
    yield* this.fences.cancel(id);
    yield* lock.lock();
    const remote = this.attachments.get().get(id);
    if (remote !== undefined) {
      yield* this.mappings.dropEach(this.mappings.of(remote), false);
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
    return this.during(() => this.locked(() => this.mapLocked(attachment, writable, announce)));
  }

  private *mapLocked(id: number, writable: boolean, announce: (mapping: RemoteMapping) => Task): Task {
    const attachment = this.attachments.get().get(id);
    if (attachment === undefined) throw new Errno('ENOENT', `there is no attachment ${id}`);
    yield* this.mappings.add(this.takeId(), attachment, writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE, announce);
  }

  /** UNMAP. ENOENT, also where an answer to INVALIDATE came first. */
  unmap(id: number): Task {
    return this.during(() => this.locked(() => this.unmapLocked(id)));
  }

  private *unmapLocked(id: number): Task {
    const mapping = this.mappings.find(id);
    if (mapping === undefined) throw new Errno('ENOENT', `there is no mapping ${id}`);
    yield* this.mappings.drop(mapping, false);
  }

  /** Handles the answer to INVALIDATE: drops every mapping that existed when the INVALIDATE was sent. */
  acknowledge(told: InvalidateRequest): Task {
    return this.during(() => this.locked(() => this.mappings.dropEach(told.mappings, false)));
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
      yield* this.fences.add(fenceId, attachment, usage);
      yield* announce(fenceId);
    } finally {
      // `end` or `detach` may have signalled the fences just before. Checked after the insertion, so that one of the
      // two sees the other.
      const isLate = (yield* this.ended.load()) || (yield* this.leaving.loadFor((ids) => ids.has(id)));
      if (isLate) yield* this.fences.signal(fenceId, 'ECANCELED');
      yield* resv.lock.unlock();
    }
  }

  /** SIGNAL_FENCE. Takes no lock, because a revoke holds the reservation while it waits for the fence. ENOENT. */
  *signalFence(id: number, error: ErrnoName | null): Task {
    if (!(yield* this.fences.signal(id, error))) throw new Errno('ENOENT', `there is no fence ${id}`);
  }

  /**
   * Ends the session of an importer that is gone or counts as gone: fences signal with an error, and everything is
   * given back. With `stillMapped`, the importer may live on with its mappings. The BAR then moves to other memory as
   * soon as nobody else shares it, before a revoke that waits for these mappings returns. Called once. Waits for the
   * requests under way, which end by themselves.
   */
  *end(stillMapped: boolean): Task {
    yield* this.ended.store(true);
    yield* this.fences.cancel(null);
    yield* this.underWay.waitUntil((count) => count === 0);
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    yield* this.mappings.dropEach(this.mappings.all(), stillMapped);
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
    const fences = yield* this.fences.of(remote);
    yield* this.link.invalidate({ attachment: remote.id, mappings: this.mappings.of(remote), fences });
  }

  /** Ids have 32 bits and are never used twice. A session ends when it has used them all. */
  private takeId(): number {
    if (this.nextId > 0xffffffff) throw new Errno('ENOSPC', 'the session has used all its ids');
    return this.nextId++;
  }

  /** Runs `body` with the reservation held. */
  private *locked(body: () => Task): Task {
    const { lock } = this.dmabuf.resv;
    yield* lock.lock();
    try {
      yield* body();
    } finally {
      yield* lock.unlock();
    }
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
