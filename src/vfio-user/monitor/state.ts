/** The server's state at one moment, as plain data: clients, buffers, locks, waits, limits. */
import type { RevokeCause } from '../../vfio/buffer-observer.ts';
import type { LimitUse } from '../wire/limit-use.ts';
import type { LentMemory } from './life.ts';

export interface DeviceState {
  readonly name: string;
  readonly bdf: string;
  readonly isOpen: boolean;
  /** Null while nobody has the device. */
  readonly client: { readonly pid: number; readonly sinceMs: number } | null;
  readonly waitingClients: number;
  /** D0 to D3hot as 0 to 3. */
  readonly powerState: number;
  readonly lowPower: boolean;
  /** The memory BARs answer. */
  readonly memoryDecodes: boolean;
  readonly bars: readonly {
    readonly index: number;
    readonly kind: string;
    readonly prefetchable: boolean;
    readonly sizeBytes: number;
    readonly address: number;
  }[];
  /** Bytes that the device has moved by DMA. */
  readonly dmaBytes: number;
}

export interface BufferState extends LentMemory {
  readonly id: number;
  readonly device: string;
  readonly name: string | null;
  readonly sinceMs: number;
  readonly revoked: boolean;
  /** Of the last revoke. */
  readonly cause: RevokeCause | null;
  /** How long the revoke that is under way has taken; null if none is. */
  readonly revokingMs: number | null;
  readonly pendingFences: number;
  readonly importers: readonly { readonly id: number; readonly name: string; readonly mappings: number }[];
}

export interface LockState {
  readonly lock: string;
  readonly holders: readonly string[];
  readonly waiters: readonly string[];
}

export interface WaitState {
  readonly task: string;
  readonly waitsFor: string;
  readonly ms: number;
  /** The tasks or importers that can end the wait, where they are known. */
  readonly on: readonly string[];
}

/** Objects that the page itself has made, by --control. */
export interface ControlState {
  /** Devices that the page has opened. */
  readonly open: readonly string[];
  /** Ids of buffers that the page has exported. */
  readonly buffers: readonly number[];
  readonly imports: readonly {
    readonly id: number;
    readonly buffer: number;
    readonly device: string;
    readonly holdMs: number;
    readonly isMapped: boolean;
  }[];
}

export interface ServerState {
  readonly atMs: number;
  readonly devices: readonly DeviceState[];
  readonly buffers: readonly BufferState[];
  /** Buffers that the list leaves out. */
  readonly moreBuffers: number;
  readonly locks: readonly LockState[];
  /** Longest first. */
  readonly waits: readonly WaitState[];
  readonly limits: readonly LimitUse[];
  readonly control: ControlState | null;
}
