/** What a watcher hears of lent buffers: their life, and the cause of each revoke. */
import type { DmaBufAttachment } from '../dma-buf/dma-buf.ts';

/** The event that takes a device's memory back. */
export type RevokeCause =
  | 'memory bit'
  | 'power state'
  | 'FLR'
  | 'reset'
  | 'hot reset'
  | 'low power'
  | 'migration'
  | 'outside'
  | 'for good'
  | 'close';

/** A part of a buffer, in bytes from the start of a region. */
export interface LentArea {
  readonly regionIndex: number;
  readonly offset: bigint;
  readonly length: bigint;
}

/**
 * Hears of the life of a device's buffers, for the live page. Called inside the task that made the change, right after
 * it, mostly with the reservation held. Must neither wait nor throw.
 */
export interface BufferObserver<Buffer> {
  exported(buffer: Buffer, areas: readonly LentArea[]): void;
  attached(buffer: Buffer, attachment: DmaBufAttachment): void;
  detached(buffer: Buffer, attachment: DmaBufAttachment): void;
  mapped(buffer: Buffer, attachment: DmaBufAttachment): void;
  unmapped(buffer: Buffer, attachment: DmaBufAttachment): void;
  /** The revoke begins: no importer knows yet. */
  revoking(buffer: Buffer, cause: RevokeCause): void;
  /** The revoke is over: no mapping and no pending fence is left. */
  revoked(buffer: Buffer): void;
  restored(buffer: Buffer): void;
  /** An importer in another process did not let go in time, and was disconnected. */
  timedOut(buffer: Buffer, importer: string): void;
  released(buffer: Buffer): void;
}
