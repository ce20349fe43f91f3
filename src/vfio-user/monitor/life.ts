/** The events of clients and lent buffers, as the page and the metrics hear of them. */
import type { RevokeCause } from '../../vfio/buffer-observer.ts';

/** An attachment to a buffer. */
export interface ImporterName {
  /** Unique in the server. */
  readonly id: number;
  /** A device of this server, or the process of another importer. */
  readonly name: string;
}

interface Base {
  /** Milliseconds since the epoch. */
  readonly atMs: number;
  readonly device: string;
}

interface OfBuffer extends Base {
  /** Unique in the server, from 1. */
  readonly buffer: number;
}

/** A range of a region, in bytes. */
export interface LentSlice {
  readonly region: number;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** The memory of a buffer: its first ranges, and how many it has. */
export interface LentMemory {
  readonly ranges: readonly LentSlice[];
  readonly rangeCount: number;
  readonly sizeBytes: number;
}

export type LifeEvent =
  | (Base & { readonly kind: 'connect' | 'leave'; readonly pid: number })
  | (Base & { readonly kind: 'drop'; readonly pid: number; readonly why: string })
  | (OfBuffer & { readonly kind: 'export'; readonly revoked: boolean } & LentMemory)
  | (OfBuffer & { readonly kind: 'attach' | 'detach' | 'map' | 'unmap'; readonly importer: ImporterName })
  | (OfBuffer & { readonly kind: 'revoke'; readonly cause: RevokeCause })
  /** During a revoke: the importer's last mapping is gone, `ms` after the revoke began. */
  | (OfBuffer & { readonly kind: 'let-go'; readonly importer: ImporterName; readonly ms: number })
  | (OfBuffer & { readonly kind: 'time-out'; readonly importer: string })
  | (OfBuffer & { readonly kind: 'revoked'; readonly cause: RevokeCause; readonly ms: number })
  | (OfBuffer & { readonly kind: 'restore' | 'release' });
