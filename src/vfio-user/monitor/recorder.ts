/** Hears of the buffers of one device, counts, and tells the page (`LifeEvent`). */
import type { DmaBufAttachment } from '../../dma-buf/dma-buf.ts';
import type { BufferObserver, LentArea, RevokeCause } from '../../vfio/buffer-observer.ts';
import type { VfioPciDmaBuf } from '../../vfio/dmabuf.ts';
import type { Counters } from './counters.ts';
import type { EventRing } from './event-ring.ts';
import type { ImporterName, LentMemory, LifeEvent } from './life.ts';

interface Attached {
  readonly name: ImporterName;
  mappings: number;
}

/** What the recorder knows of a buffer. */
export interface WatchedBuffer {
  readonly id: number;
  readonly buffer: VfioPciDmaBuf;
  readonly lent: LentMemory;
  readonly sinceMs: number;
  readonly importers: Map<DmaBufAttachment, Attached>;
  /** While a revoke is under way. */
  revoking: { readonly cause: RevokeCause; readonly atMs: number } | null;
  /** The last cause. */
  cause: RevokeCause | null;
}

/** Ids of buffers and attachments, for all devices of a server. */
export class Ids {
  private last = 0;

  next(): number {
    this.last += 1;
    return this.last;
  }
}

export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

export class BufferRecorder implements BufferObserver<VfioPciDmaBuf> {
  /** The live buffers, oldest first. */
  readonly buffers = new Map<VfioPciDmaBuf, WatchedBuffer>();
  private readonly device: string;
  private readonly index: number;
  private readonly ids: Ids;
  private readonly counters: Counters;
  private readonly events: EventRing<LifeEvent>;

  constructor(device: string, index: number, ids: Ids, counters: Counters, events: EventRing<LifeEvent>) {
    this.device = device;
    this.index = index;
    this.ids = ids;
    this.counters = counters;
    this.events = events;
  }

  exported(buffer: VfioPciDmaBuf, areas: readonly LentArea[]): void {
    const id = this.ids.next();
    const lent = lentOf(buffer, areas);
    const sinceMs = nowMs();
    this.buffers.set(buffer, { id, buffer, lent, sinceMs, importers: new Map(), revoking: null, cause: null });
    this.counters.count(this.index, 'exports');
    this.push({ kind: 'export', buffer: id, ...lent, revoked: buffer.revoked.value });
  }

  attached(buffer: VfioPciDmaBuf, attachment: DmaBufAttachment): void {
    const watched = this.buffers.get(buffer);
    if (watched === undefined) return;
    const name = { id: this.ids.next(), name: attachment.importerName };
    watched.importers.set(attachment, { name, mappings: 0 });
    this.counters.count(this.index, 'attaches');
    this.push({ kind: 'attach', buffer: watched.id, importer: name });
  }

  detached(buffer: VfioPciDmaBuf, attachment: DmaBufAttachment): void {
    const watched = this.buffers.get(buffer);
    const importer = watched?.importers.get(attachment);
    if (watched === undefined || importer === undefined) return;
    watched.importers.delete(attachment);
    this.push({ kind: 'detach', buffer: watched.id, importer: importer.name });
  }

  mapped(buffer: VfioPciDmaBuf, attachment: DmaBufAttachment): void {
    const watched = this.buffers.get(buffer);
    const importer = watched?.importers.get(attachment);
    if (watched === undefined || importer === undefined) return;
    importer.mappings += 1;
    this.counters.count(this.index, 'maps');
    this.push({ kind: 'map', buffer: watched.id, importer: importer.name });
  }

  unmapped(buffer: VfioPciDmaBuf, attachment: DmaBufAttachment): void {
    const watched = this.buffers.get(buffer);
    const importer = watched?.importers.get(attachment);
    if (watched === undefined || importer === undefined) return;
    importer.mappings -= 1;
    const { revoking } = watched;
    if (revoking === null) this.push({ kind: 'unmap', buffer: watched.id, importer: importer.name });
    else if (importer.mappings === 0) {
      const ms = nowMs() - revoking.atMs;
      this.push({ kind: 'let-go', buffer: watched.id, importer: importer.name, ms });
    }
  }

  revoking(buffer: VfioPciDmaBuf, cause: RevokeCause): void {
    const watched = this.buffers.get(buffer);
    if (watched === undefined) return;
    watched.revoking = { cause, atMs: nowMs() };
    watched.cause = cause;
    this.push({ kind: 'revoke', buffer: watched.id, cause });
  }

  revoked(buffer: VfioPciDmaBuf): void {
    const watched = this.buffers.get(buffer);
    if (watched === undefined || watched.revoking === null) return;
    const { cause, atMs } = watched.revoking;
    watched.revoking = null;
    const ms = nowMs() - atMs;
    this.counters.revoke(this.index, cause, ms / 1000);
    this.push({ kind: 'revoked', buffer: watched.id, cause, ms });
  }

  restored(buffer: VfioPciDmaBuf): void {
    const watched = this.buffers.get(buffer);
    if (watched === undefined) return;
    this.counters.count(this.index, 'restores');
    this.push({ kind: 'restore', buffer: watched.id });
  }

  released(buffer: VfioPciDmaBuf): void {
    const watched = this.buffers.get(buffer);
    if (watched === undefined) return;
    this.buffers.delete(buffer);
    this.counters.count(this.index, 'releases');
    this.push({ kind: 'release', buffer: watched.id });
  }

  timedOut(buffer: VfioPciDmaBuf, importer: string): void {
    this.counters.count(this.index, 'importersTimedOut');
    const watched = this.buffers.get(buffer);
    if (watched !== undefined) this.push({ kind: 'time-out', buffer: watched.id, importer });
  }

  private push(event: DistributiveOmit<LifeEvent, 'atMs' | 'device'>): void {
    this.events.push({ atMs: nowMs(), device: this.device, ...event } as LifeEvent);
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A buffer may have a quarter of a million ranges. The page shows the first ones. */
const MAX_RANGES = 16;

function lentOf({ sizeBytes }: VfioPciDmaBuf, areas: readonly LentArea[]): LentMemory {
  const ranges = areas.slice(0, MAX_RANGES).map(({ regionIndex, offset, length }) => {
    return { region: regionIndex, offset: Number(offset), sizeBytes: Number(length) };
  });
  return { ranges, rangeCount: areas.length, sizeBytes };
}
