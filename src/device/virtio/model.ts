/** The interface between a virtio device and its transport. */
import type { Task } from '../../task/op.ts';
import type { Screen } from '../screen.ts';
import type { Chain } from './chain.ts';
import type { DeviceDma } from './dma.ts';

/** What a device gets with each chain. */
export interface QueueWork {
  readonly dma: DeviceDma;
  /** Lets other tasks run, and ends this one if the device was reset. For work whose length the driver decides. */
  giveWay(): Task;
  /**
   * Waits for something that no DMA of this task ends. Resets do not wait for it, and end the task once `wait` is over.
   */
  aside(wait: Task): Task;
}

/** A kind of virtio device. The transport calls it; calls for one queue come one after the other. */
export interface VirtioModel {
  /** VIRTIO_ID_*. */
  readonly type: number;
  readonly classCode: number;
  readonly screen?: Screen;
  /** The feature bits of the kind of device. The transport adds its own. */
  readonly features: readonly number[];
  /** For each queue the most descriptors that it may have: a power of two. */
  readonly queueSizes: readonly number[];
  /** The device configuration as it is now. */
  readConfig(): Uint8Array;
  /** A write to the device configuration. The device decides which bytes may be written. */
  writeConfig(offset: number, from: Uint8Array): void;
  /** Takes a chain of `queue`, and returns how many bytes it wrote there. The transport then gives the chain back. */
  handle(queue: number, chain: Chain, work: QueueWork): Task<number>;
  /** Called synchronously when the device is reset. Chains that it has not answered are never given back. */
  onReset(): void;
}
